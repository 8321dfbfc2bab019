"""What a house is built with at the protocols: the other workers, a store that can be away, what it
records, and no network."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from gateway.audit.log import AuditEvent
from gateway.identity.issuers.fetching import FetchedDocument, FetchFailed
from gateway.model import Change, ChangeKind, Principal, Reason
from gateway.stores.protocols import (
    Database,
    Delivery,
    DeliveryState,
    StoreUnavailable,
    Transaction,
)


@dataclass
class Workers:
    """Meets `protocols.RevocationPublisher` and `identity.tokens.authenticator.Revocations`: one
    worker, which can be told not to confirm."""

    confirm: bool = True
    told: list[Change] = field(default_factory=list)

    async def publish(self, changes: Sequence[Change]) -> bool:
        self.told += changes
        return self.confirm

    def refusal(self, principal: Principal) -> Reason | None:
        for change in self.told:
            if change.kind is ChangeKind.SUBJECT:
                if change.target == principal.subject and principal.issued_at <= change.not_before:
                    return change.cause
            elif change.kind is ChangeKind.CLIENT:
                if (
                    change.target == principal.client_id
                    and principal.issued_at <= change.not_before
                ):
                    return change.cause
            elif change.target in (principal.session_id, principal.token_id):
                return change.cause
        return None


class Fragile:
    """A database that can be away; meets `protocols.Database`."""

    dialect = "sqlite"

    def __init__(self, database: Database) -> None:
        self._database = database
        self.away = False
        self.before_commit: Callable[[], Awaitable[None]] | None = None

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        self._answer()
        async with self._database.transaction() as tx:
            yield tx
            if self.before_commit is not None:
                await self.before_commit()

    def read_transaction(self) -> AbstractAsyncContextManager[Transaction]:
        self._answer()
        return self._database.read_transaction()

    def migration_transaction(self, wait_s: float) -> AbstractAsyncContextManager[Transaction]:
        return self._database.migration_transaction(wait_s)

    async def close(self) -> None:
        await self._database.close()

    def _answer(self) -> None:
        if self.away:
            raise StoreUnavailable("sql", "away")


@dataclass
class Recorded:
    """Meets `edge.endpoints.audit_events.AuditSink`."""

    events: list[AuditEvent] = field(default_factory=list)

    denials: list[tuple[str, str | None, str | None]] = field(default_factory=list)

    def record(self, event: AuditEvent) -> None:
        self.events.append(event)

    def denied(self, reason: str, route: str | None, subject: str | None) -> None:
        self.denials.append((reason, route, subject))

    def pseudonym(self, normalized_email: str) -> str:
        return f"pseudonym of {len(normalized_email)} letters"


class NoDocuments:
    """There is no network."""

    async def get(self, url: str, ca: str | None, bytes_max: int) -> FetchedDocument:
        raise FetchFailed(f"{url} is not there")


async def no_addresses(host: str, _port: int) -> list[str]:
    raise OSError(host)


class MemoryDeliveries:
    """Meets `protocols.Deliveries`."""

    def __init__(self) -> None:
        self.states: dict[str, DeliveryState] = {}
        self.away = False

    async def begin(self, key: str) -> Delivery:
        self._answer()
        state = self.states.get(key, DeliveryState.FIRST)
        if state is DeliveryState.FIRST:
            self.states[key] = DeliveryState.UNDER_WAY
        return Delivery(key, "mark", state)

    async def finish(self, delivery: Delivery, keep_s: int) -> None:
        del keep_s
        self._answer()
        self.states[delivery.key] = DeliveryState.DONE

    async def withdraw(self, delivery: Delivery) -> None:
        self._answer()
        if delivery.state is DeliveryState.FIRST:
            del self.states[delivery.key]

    def _answer(self) -> None:
        if self.away:
            raise StoreUnavailable("redis", "away")


class MemoryRedis:
    """The calls of cookie sessions, kept in memory; meets `edge.replies.cookies.RedisCalls`."""

    prefix = ""

    def __init__(self) -> None:
        self._values: dict[str, str] = {}

    async def call(self, *words: str | int | float) -> Any:
        name, *keys = map(str, words)
        if name == "DEL":
            for key in keys:
                self._values.pop(key, None)
        elif name == "SET" and ("XX" not in keys or keys[0] in self._values):
            self._values[keys[0]] = keys[1]
        return self._values.get(keys[0])
