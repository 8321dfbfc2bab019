"""Runs named background tasks, restarts those that fail, and ends them with their worker."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from gateway.client_networks import OWN_TASKS, asking_for
from gateway.stores.protocols import StoreUnavailable
from gateway.telemetry.metrics import Tally

log = structlog.get_logger()

FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 5.0
CANCEL_AGAIN_AFTER_S = 0.2
HEALTHY_AFTER_S = 10.0
"""A task that has run for so long is healthy again: its next failure is logged anew."""


class Tasks:
    """The background tasks of one worker."""

    def __init__(self, failed: Tally | None = None) -> None:
        """`failed` counts failures that no unavailable store explains."""
        self._failed = failed or Tally()
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def start(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        """Runs `work` until it returns; after an exception it restarts, with a pause.

        The first of a row of failures is logged, with a traceback unless a store is
        unavailable.
        """
        if name in self._tasks:
            raise ValueError(f"a task {name!r} runs already")
        self._tasks[name] = asyncio.create_task(_supervised(name, work, self._failed), name=name)

    def every(self, name: str, seconds: float, work: Callable[[], Awaitable[None]]) -> None:
        """Runs `work` again and again, with so many seconds between two runs."""

        async def repeated() -> None:
            while True:
                await work()
                await asyncio.sleep(seconds)

        self.start(name, repeated)

    async def stop(self) -> None:
        """Cancels them all and waits for them."""
        running = set(self._tasks.values())
        self._tasks = {}
        while running:
            for task in running:
                task.cancel()
            # Once is not always enough: before Python 3.12 `asyncio.wait_for`, which the store
            # drivers use, swallows a cancellation that comes together with its answer.
            _, running = await asyncio.wait(running, timeout=CANCEL_AGAIN_AFTER_S)


async def _supervised(name: str, work: Callable[[], Awaitable[None]], failed: Tally) -> None:
    asking_for.set(OWN_TASKS)
    loop = asyncio.get_running_loop()
    failures = 0
    while True:
        began_at = loop.time()
        try:
            await work()
            return
        except Exception as error:  # noqa: BLE001 (whatever it was, the task must go on)
            if loop.time() - began_at > HEALTHY_AFTER_S:
                failures = 0
            failed.n += not isinstance(error, StoreUnavailable)
            if failures == 0:
                _log_failure(name, error)
            pause_s = min(FIRST_PAUSE_S * 2 ** min(failures, 10), LONGEST_PAUSE_S)
            failures += 1
        await asyncio.sleep(pause_s)


def _log_failure(name: str, error: Exception) -> None:
    if isinstance(error, StoreUnavailable):
        log.warning("task-waits-for-store", task=name, store=error.store, why=error.detail)
    else:
        log.error("task-failed", task=name, exc_info=error)
