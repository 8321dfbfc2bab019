"""The few threads that hash passwords, and who is served by them first.

Law: what strangers ask for never keeps a browser that has signed in before waiting for long.
Each lane has a queue of its own; while several have work, of eight jobs the devices that are
known get five, sign-ins two and new passwords one.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from enum import IntEnum
from typing import Any, TypeVar

from gateway.call_trace import Traced
from gateway.model import Reason

T = TypeVar("T")
_Job = tuple[Callable[[], Any], Future[Any]]


class Lane(IntEnum):
    """In the order in which they are served where the turn does not decide."""

    KNOWN = 0
    """A device that the account has signed in with, or the holder of a session of it."""
    SIGN_IN = 1
    NEW = 2
    """A password that is registered, set or reset."""


HOLDER_JOBS = 5
"""Jobs of one holder at a time in one lane: who has an account, or a link, must not fill the lane
of known devices, nor a stranger who guesses at one that of its owner."""

_TURNS = (
    Lane.KNOWN,
    Lane.SIGN_IN,
    Lane.KNOWN,
    Lane.KNOWN,
    Lane.NEW,
    Lane.KNOWN,
    Lane.SIGN_IN,
    Lane.KNOWN,
)


class HashingThreads:
    def __init__(self, threads: int, queue: int) -> None:
        """`queue` jobs of each lane may wait; with none waiting `threads` of any lane run."""
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="hashing")
        self._free = threads
        self._queue = queue
        self._waiting: dict[Lane, deque[_Job]] = {lane: deque() for lane in Lane}
        self._turns = itertools.cycle(_TURNS)
        self._pending = 0
        self._by_holder: Counter[tuple[Lane, str]] = Counter()
        self._lock = threading.Lock()

    async def run(self, work: Callable[[], T], lane: Lane, holder: str = "") -> T | Reason:
        """What `work` gives, or HASHING_BUSY.  `holder` names the account, or the mailed link,
        that asks; empty where there is neither.  A link has its own: who has a session of the
        account keeps no owner from a reset."""
        job: Future[T] = Future()
        with self._lock:
            if holder and self._by_holder[lane, holder] >= HOLDER_JOBS:
                return Reason.HASHING_BUSY
            starts = self._free > 0
            if not starts and len(self._waiting[lane]) >= self._queue:
                return Reason.HASHING_BUSY
            self._pending += 1
            self._by_holder[lane, holder] += 1
            self._free -= starts
            if not starts:
                self._waiting[lane].append((work, job))
        # Called in the thread that ends the job, or here when a caller who left cancels it.
        job.add_done_callback(lambda _: self._leave(lane, work, job, holder))
        if starts:
            self._threads.submit(self._serve, (work, job))
        return await asyncio.wrap_future(job)

    @property
    def pending(self) -> int:
        """Jobs that are in a thread or wait for one."""
        return self._pending

    def close(self) -> None:
        with self._lock:
            waiting_jobs = [job for waiting in self._waiting.values() for _, job in waiting]
        for job in waiting_jobs:
            job.cancel()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _serve(self, next_job: _Job | None) -> None:
        """In a thread: one job after the other, until there is none."""
        while next_job is not None:
            work, job = next_job
            if job.set_running_or_notify_cancel():
                try:
                    job.set_result(work())
                except BaseException as error:  # noqa: BLE001 (the caller's to handle)
                    job.set_exception(error)
            next_job = self._next()

    def _next(self) -> _Job | None:
        with self._lock:
            turn = next(self._turns)
            for lane in (turn, *Lane):
                if self._waiting[lane]:
                    return self._waiting[lane].popleft()
            self._free += 1
            return None

    def _leave(self, lane: Lane, work: Callable[[], Any], job: Future[Any], holder: str) -> None:
        with self._lock:
            self._pending -= 1
            self._by_holder[lane, holder] -= 1
            if not self._by_holder[lane, holder]:
                del self._by_holder[lane, holder]
            if job.cancelled():
                with suppress(ValueError):  # a thread has just taken it
                    self._waiting[lane].remove((work, job))


class TracedHashingThreads(HashingThreads):
    """Each job is a span of the call that asks, its wait for a thread included; taken where traces
    are on."""

    async def run(self, work: Callable[[], T], lane: Lane, holder: str = "") -> T | Reason:
        with Traced("hash password", {"authgate.hashing.lane": lane.name.lower()}):
            return await super().run(work, lane, holder)
