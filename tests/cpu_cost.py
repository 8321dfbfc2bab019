"""What work costs, told in what other work costs: seconds differ from machine to machine."""

from __future__ import annotations

from collections.abc import Callable
from time import thread_time

ROUNDS = 9


def plain_loop() -> int:
    """A loop over as many letters as a request's path may have.

    It is interpreted wherever the gateway is compiled, and costs some 0.3 ms.
    """
    count = 0
    for letter in "/x" * 4_096:
        count += letter == "/"
    return count


def cost_ratio(work: Callable[[], object], yardstick: Callable[[], object] = plain_loop) -> float:
    """How many times the processor time of the yardstick the work takes.

    Of each the least of several runs, for whatever else the machine does only
    makes one longer; in turns, for a processor changes its clock.
    """
    costs_s = [(cpu_s(work), cpu_s(yardstick)) for _ in range(ROUNDS)]
    return min(work_s for work_s, _ in costs_s) / min(yard_s for _, yard_s in costs_s)


def cpu_s(work: Callable[[], object]) -> float:
    began_s = thread_time()
    work()
    return thread_time() - began_s
