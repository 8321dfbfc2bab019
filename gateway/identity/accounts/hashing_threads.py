"""The few threads that hash passwords, and who is served by them first.

Law: what strangers ask for never keeps a browser that has signed in before waiting for long.
Each lane has a queue of its own; while several have work, of eight jobs the devices that are
known get five, sign-ins two and new passwords one.  Within a lane IP addresses take turns, and
where it is full one that has few jobs there takes a place from the one that has most: who has many
accounts keeps out nobody who comes from elsewhere.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, TypeVar

from gateway.call_trace import Traced
from gateway.client_networks import holder as holder_of
from gateway.client_networks import neighbourhood as neighbourhood_of
from gateway.model import Reason

T = TypeVar("T")


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


@dataclass(frozen=True, slots=True, eq=False)
class _Job:
    work: Callable[[], Any]
    lane: Lane
    holder: str
    client_ip: str
    """Empty where nobody's."""
    future: Future[Any] = field(default_factory=Future)


class _Queue:
    """The jobs of one lane that wait: one neighbourhood after the other, and in each one address
    after the other, one job each.  Whoever has a /48 of IPv6 has 65,536 addresses."""

    def __init__(self) -> None:
        self._by_network: OrderedDict[str, _Neighbourhood] = OrderedDict()
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[_Job]:
        for network in self._by_network.values():
            for jobs in network.by_address.values():
                yield from jobs

    def add(self, job: _Job) -> None:
        network = self._by_network.setdefault(_network(job), _Neighbourhood())
        network.by_address.setdefault(_address(job), deque()).append(job)
        network.length += 1
        self._length += 1

    def next(self) -> _Job:
        name, network = next(iter(self._by_network.items()))
        self._by_network.move_to_end(name)
        address, jobs = next(iter(network.by_address.items()))
        network.by_address.move_to_end(address)
        job = jobs[0]
        self.remove(job)
        return job

    def remove(self, job: _Job) -> None:
        """Raises ValueError where it does not wait."""
        network = self._by_network.get(_network(job), _Neighbourhood())
        jobs = network.by_address.get(_address(job), deque())
        jobs.remove(job)
        network.length -= 1
        self._length -= 1
        if not jobs:
            del network.by_address[_address(job)]
        if not network.length:
            del self._by_network[_network(job)]

    def make_room(self, newcomer: _Job) -> _Job | None:
        """The job that gives its place to this one: of the neighbourhood that has most, where that
        has more even then, else of its own; the latest of the address there that has most, and
        in its own neighbourhood has more even then.  None where there is no such."""
        own = self._by_network.get(_network(newcomer), _Neighbourhood())
        most = max(self._by_network.values(), key=lambda one: one.length, default=own)
        least = 1
        if most.length < own.length + 2:
            most, least = own, len(own.by_address.get(_address(newcomer), ())) + 2
        jobs = max(most.by_address.values(), key=len, default=deque[_Job]())
        if len(jobs) < least:
            return None
        job = jobs[-1]
        self.remove(job)
        return job


@dataclass(slots=True)
class _Neighbourhood:
    by_address: OrderedDict[str, deque[_Job]] = field(default_factory=OrderedDict)
    length: int = 0


def _network(job: _Job) -> str:
    return neighbourhood_of(job.client_ip) if job.client_ip else ""


def _address(job: _Job) -> str:
    return holder_of(job.client_ip) if job.client_ip else ""


class HashingThreads:
    def __init__(self, threads: int, queue: int) -> None:
        """`queue` jobs of each lane may wait; with none waiting `threads` of any lane run."""
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="hashing")
        self._free = threads
        self._queue = queue
        self._waiting = {lane: _Queue() for lane in Lane}
        self._turns = itertools.cycle(_TURNS)
        self._pending = 0
        self._by_holder: Counter[tuple[Lane, str]] = Counter()
        self._lock = threading.Lock()

    async def run(
        self, work: Callable[[], T], lane: Lane, holder: str = "", *, client_ip: str = ""
    ) -> T | Reason:
        """What `work` gives, or HASHING_BUSY.  `holder` names the account, or the mailed link,
        that asks; empty where there is neither.  A link has its own: who has a session of the
        account keeps no owner from a reset.  `client_ip` is the IP address that asks."""
        job = _Job(work, lane, holder, client_ip)
        displaced: _Job | None = None
        with self._lock:
            if holder and self._by_holder[lane, holder] >= HOLDER_JOBS:
                return Reason.HASHING_BUSY
            starts, waiting = self._free > 0, self._waiting[lane]
            if not starts and len(waiting) >= self._queue:
                displaced = waiting.make_room(job)
                if displaced is None:
                    return Reason.HASHING_BUSY
            self._pending += 1
            self._by_holder[lane, holder] += 1
            self._free -= starts
            if not starts:
                waiting.add(job)
        # Called in the thread that ends the job, or here: for a caller who left, or whose place is
        # another's now.
        job.future.add_done_callback(lambda _: self._leave(job))
        if starts:
            self._threads.submit(self._serve, job)
        if displaced is not None:
            displaced.future.set_result(Reason.HASHING_BUSY)
        result: T | Reason = await asyncio.wrap_future(job.future)
        return result

    @property
    def pending(self) -> int:
        """Jobs that are in a thread or wait for one."""
        return self._pending

    def close(self) -> None:
        with self._lock:
            waiting_jobs = [job for waiting in self._waiting.values() for job in waiting]
        for job in waiting_jobs:
            job.future.cancel()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _serve(self, next_job: _Job | None) -> None:
        """In a thread: one job after the other, until there is none."""
        while next_job is not None:
            future = next_job.future
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(next_job.work())
                except BaseException as error:  # noqa: BLE001 (the caller's to handle)
                    future.set_exception(error)
            next_job = self._next()

    def _next(self) -> _Job | None:
        with self._lock:
            turn = next(self._turns)
            for lane in (turn, *Lane):
                if self._waiting[lane]:
                    return self._waiting[lane].next()
            self._free += 1
            return None

    def _leave(self, job: _Job) -> None:
        held = job.lane, job.holder
        with self._lock:
            self._pending -= 1
            self._by_holder[held] -= 1
            if not self._by_holder[held]:
                del self._by_holder[held]
            if job.future.cancelled():
                with suppress(ValueError):  # a thread has just taken it
                    self._waiting[job.lane].remove(job)


class TracedHashingThreads(HashingThreads):
    """Each job is a span of the call that asks, its wait for a thread included; taken where traces
    are on."""

    async def run(
        self, work: Callable[[], T], lane: Lane, holder: str = "", *, client_ip: str = ""
    ) -> T | Reason:
        with Traced("hash password", {"authgate.hashing.lane": lane.name.lower()}):
            return await super().run(work, lane, holder, client_ip=client_ip)
