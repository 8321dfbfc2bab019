"""What the rooms need of a store.  The SQL text stands in the room that needs it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from gateway.model import Change, Reason

Row = Mapping[str, Any]


class StoreUnavailable(Exception):
    """A store could not be reached, or did not answer in time.

    `store` names it for people: "sql" or "redis".  Whether what was asked has happened is
    not known, unless the caller can tell by asking again.
    """

    reason = Reason.STORE_UNAVAILABLE
    """What the caller who needs the store is answered."""

    def __init__(self, store: str, detail: str = "") -> None:
        super().__init__(f"{store}: {detail}" if detail else store)
        self.store = store
        self.detail = detail


class LockBusy(StoreUnavailable):
    """Another transaction held on to what a statement wanted to lock; nothing was done."""


class StoreBusy(StoreUnavailable):
    """There was no place in our own queue: nothing was asked, and the store may be well."""

    reason = Reason.STORE_BUSY


class Conflict(Exception):
    """A unique key is taken; the transaction is rolled back."""


class Transaction(Protocol):
    """Statements that hold together.  One SQL text serves both dialects.

    Parameters are `:name`.  ids are TEXT, times BIGINT seconds, booleans SMALLINT 0 or 1,
    bytes are base64url TEXT.  RETURNING and ON CONFLICT work in both; a row is locked by
    `UPDATE t SET id = id WHERE id = :id RETURNING …` (SQLite's transactions are
    BEGIN IMMEDIATE: whoever writes, writes alone).
    """

    async def all(self, sql: str, /, **parameters: Any) -> list[Row]: ...

    async def one(self, sql: str, /, **parameters: Any) -> Row | None:
        """The first row, or None."""

    async def run(self, sql: str, /, **parameters: Any) -> int:
        """How many rows were changed."""

    async def many(self, sql: str, rows: Sequence[Mapping[str, Any]], /) -> None: ...

    async def now(self) -> float:
        """Seconds since the epoch by the store's own clock, read when it is asked."""


class Database(Protocol):
    """PostgreSQL or SQLite.  Every method may raise StoreUnavailable, within 2 s."""

    dialect: str
    """`sqlite` or `postgresql`."""

    def transaction(self) -> AbstractAsyncContextManager[Transaction]:
        """Commits when the block ends, rolls back when it raises (Conflict included)."""

    def read_transaction(self) -> AbstractAsyncContextManager[Transaction]:
        """For statements that only read: takes no write lock."""

    def migration_transaction(self, wait_s: float) -> AbstractAsyncContextManager[Transaction]:
        """A transaction that one process of the installation holds at a time, with `wait_s`
        for the others and for each statement; only `stores.migrations` needs it."""

    async def close(self) -> None: ...


class RevocationPublisher(Protocol):
    """Carries changes that SQL has already committed to every live worker."""

    async def publish(self, changes: Sequence[Change]) -> bool:
        """True when every live worker has applied them; False when that could not be
        confirmed: SQL and this worker have them, the relay does the rest.  Never raises
        StoreUnavailable."""


HOUR_S = 3600
PENDING_S = 120
"""How long an attempt counts that was reserved and never settled: its worker was killed."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One counter of the login throttle: `limit` attempts in any `window_s`."""

    key: str
    limit: int
    window_s: int
    paced: bool = False
    """Whether the next attempt waits after a failure: 1, 2, 4, 8 s."""
    an_hour: int = 0
    """So many in any hour besides, once a window was full; 0 for no such bound."""


@dataclass(frozen=True, slots=True)
class ReserveResult:
    """What `Attempts.reserve` answers."""

    wait_s: float
    """0.0 when every counter had room and was charged; else nothing was."""
    failures: int
    """Failures within the window of the paced counter; the most where several are."""


class NonceStore(Protocol):
    """Nonces that all workers share."""

    async def claim(self, key: str, ttl_s: int) -> bool:
        """True for the first caller within `ttl_s`, False for all others.  Raises
        StoreUnavailable."""


class ReadableNonceStore(NonceStore, Protocol):
    async def is_claimed(self, key: str) -> bool:
        """Whether somebody has claimed it, and its time is not over.  Raises StoreUnavailable."""


class DeliveryState(StrEnum):
    FIRST = "first"
    UNDER_WAY = "under-way"
    """It came a moment ago, and what follows from it is being done."""
    DONE = "done"


@dataclass(frozen=True, slots=True)
class Delivery:
    """What `Deliveries.begin` answers; `mark` tells this caller from others."""

    key: str
    mark: str
    state: DeliveryState


class Deliveries(Protocol):
    """What is to be done once, however often it is delivered (shared between workers).  Every
    method may raise StoreUnavailable."""

    async def begin(self, key: str) -> Delivery:
        """FIRST for one caller, who then finishes it or withdraws."""

    async def finish(self, delivery: Delivery, keep_s: int) -> None:
        """It is done; whoever brings it again within `keep_s` is told so."""

    async def withdraw(self, delivery: Delivery) -> None:
        """It could not be done: the next who brings it is the first again."""


class Attempts(Protocol):
    """Attempts, counted before the work they pay for (shared between workers)."""

    async def reserve(self, attempts: Sequence[Attempt], mark: str) -> ReserveResult:
        """Charges every counter by one, at once and atomically, or none.  `mark` names the
        attempt to the other methods."""

    async def settle(self, attempts: Sequence[Attempt], mark: str, *, failed: bool) -> None:
        """The attempt was evaluated and wrong, or is spent without: its window begins now."""

    async def give_back(self, attempts: Sequence[Attempt], mark: str) -> None:
        """The attempt was no failure after all."""

    async def clear(self, keys: Sequence[str]) -> None: ...

    async def keys_under(self, prefix: str) -> Sequence[str]:
        """Of every counter whose key begins so.  Looks at all keys there are: for operators."""


@dataclass(slots=True)
class BucketRequest:
    """What is asked of one bucket that all workers share."""

    key: str
    interval_s: float
    """Seconds until one unit has come back: the rate's inverse."""
    burst: int
    """Units that a full bucket holds."""
    least: int = 1
    """Fewer than this are a refusal."""
    most: int = 1
    """Units to take ahead, `least` included, as far as a fair part of what is left allows."""
    owed: int = 0
    """Units that were spent unasked: charged first, room or not.  Below 0: given back."""


@dataclass(slots=True)
class BucketGrant:
    """What one bucket gave."""

    units: int
    left: int
    """Whole units that remain in the bucket."""


class Counters(Protocol):
    """GCRA buckets that all workers share, by the store's own clock."""

    async def spend(
        self, groups: Sequence[Sequence[BucketRequest]], sharers: int
    ) -> list[list[BucketGrant] | float]:
        """For each group, in order: a grant for each request, or the seconds to wait.

        A group is charged whole or not at all, but for what is owed; the groups are judged
        one after the other, in one round trip.  `sharers` is how many workers are live: what
        is taken ahead is at most that part of what is left.  Raises StoreUnavailable.
        """


Entry = tuple[int, Change | None]
"""An entry's number and its change; None where the change cannot be read."""


@dataclass(frozen=True, slots=True)
class LeaseState:
    """One worker's lease, as the stream's server has it."""

    heartbeat: int
    """Grows with every renewal that was not behind the stream's end (or is still loading)."""
    position: int
    """The last entry that the worker has applied; -1 while it is still loading from SQL."""
    keys_position: int
    """As `position`, for the changes that make it read its signing keys again."""


@dataclass(frozen=True, slots=True)
class StreamView:
    """The stream as one round trip saw it."""

    incarnation: str
    """Differs when the server's memory may have: its epoch, and unless it is durable its run
    and replication ids too."""
    end: int
    """The number of the last entry; entries are numbered without gaps."""
    leases: Mapping[str, LeaseState]
    entries: Sequence[Entry] = ()
    """Those after the caller's position, the oldest first."""


INCARNATION = "stream.incarnation"
"""The row of `installation` with the incarnation of the stream that its workers follow."""


class ChangeStream(Protocol):
    """Revocations in their order, and leases (decision 0004).

    Every method may raise StoreUnavailable.
    """

    async def register(self, worker: str) -> StreamView:
        """Gives `worker` a lease, loading."""

    async def renew(
        self, worker: str, heartbeat: int, position: int, keys_position: int
    ) -> StreamView | None:
        """None when the lease is gone.  The view has the entries after `position`; the heartbeat
        is taken only where there are none."""

    async def withdraw(self, worker: str) -> None:
        """Gives the lease up; the worker must have fenced itself before."""

    async def forget(self, worker: str, heartbeat: int) -> None:
        """Removes a lease that has not been renewed since."""

    async def append(self, changes: Sequence[Change]) -> StreamView:
        """The view after it; its end is the number of the last of `changes`."""

    async def view(self) -> StreamView: ...

    async def peek(self) -> StreamView | None:
        """As `view`; None where the server holds no stream, which then is not begun."""

    async def read_new(self, position: int, wait_s: float) -> Sequence[Entry]:
        """The entries after `position`, as soon as there is one; none after `wait_s`."""

    async def trim(self, older_than_s: float) -> None: ...
