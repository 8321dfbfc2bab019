"""What work costs, told in what other work costs: seconds differ from machine to machine."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from time import process_time, thread_time

ROUNDS = 9
work_slowed_by = 1.0
"""How many times as long as it would the work takes, and no yardstick: whoever judges mutants
calls each function of the gateway through another."""


def plain_loop() -> int:
    """A loop over as many letters as a request's path may have.

    It is interpreted wherever the gateway is compiled, and costs some 0.3 ms.
    """
    count = 0
    for letter in "/x" * 4_096:
        count += letter == "/"
    return count


def cost_ratio(
    work: Callable[[], object],
    yardstick: Callable[[], object] = plain_loop,
    rounds: int = ROUNDS,
) -> float:
    """How many times the processor time of the yardstick the work takes.

    Of each the least of several rounds, for whatever else the machine does only
    makes one longer; in turns, for a processor changes its clock.
    """
    with _untraced():
        return _least_ratio([(_cpu_s(work), _cpu_s(yardstick)) for _ in range(rounds)])


async def awaited_cost_ratio(
    work: Callable[[], Awaitable[object]],
    yardstick: Callable[[], object] = plain_loop,
    rounds: int = ROUNDS,
) -> float:
    """The same of work that is awaited, with what the loop and other threads do meanwhile."""
    costs_s: list[tuple[float, float]] = []
    with _untraced():
        for _ in range(rounds):
            began_s = process_time()
            await work()
            costs_s.append((process_time() - began_s, _cpu_s(yardstick)))
    return _least_ratio(costs_s)


def _cpu_s(work: Callable[[], object]) -> float:
    began_s = thread_time()
    work()
    return thread_time() - began_s


def _least_ratio(costs_s: list[tuple[float, float]]) -> float:
    work_s = min(work_s for work_s, _ in costs_s) / work_slowed_by
    return work_s / min(yardstick_s for _, yardstick_s in costs_s)


@contextmanager
def _untraced() -> Iterator[None]:
    """Coverage costs more than what it watches, and it watches no yardstick."""
    tracer = sys.gettrace()
    sys.settrace(None)
    try:
        yield
    finally:
        sys.settrace(tracer)
