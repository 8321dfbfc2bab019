"""The audit log: who did what, from where, and how it ended, in rows that cannot be edited unseen.

Law: recording never waits and never fails a call: an event joins a bounded queue, and what
finds no room is counted, in the log itself too.  Each writer (one worker, one command) has a
chain of its own (see `audit.chain`).  A chain's first row holds the heads of the chains before
it, and heads go to the ordinary log each hour, so that neither an edit nor a cut nor the loss
of a whole chain stays unseen by who kept those lines.

No event holds a token, a password, a cookie, a link, or an address that no account has: of
such an address only a keyed hash is written.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import json
import secrets
from collections import deque
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import structlog

from gateway.audit import chain
from gateway.audit.chain import GENESIS, ChainKey, heads, milliseconds
from gateway.identity.base64url import encoded
from gateway.model import Clock
from gateway.stores.protocols import Database, Row, StoreUnavailable, Transaction
from gateway.telemetry.metrics import Tally

log = structlog.get_logger()

_QUEUE = 10_000
_BATCH = 500
_EVERY_S = 1.0
_DENIALS = 1_000
"""Different denials that one minute keeps apart; the rest are counted together."""
_HEADS_KEPT = 32
_LONGEST_TEXT = 256
OTHERS = "(others)"


class AuditKind(StrEnum):
    """What an event is about; operators rely on the names."""

    WRITER_STARTED = "writer_started"
    DROPPED = "dropped"
    DENIED = "denied"
    """`count` calls of one minute, by reason, route and subject."""
    SIGNED_IN = "signed_in"
    SIGN_IN_FAILED = "sign_in_failed"
    FACTOR_REQUESTED = "factor_requested"
    """A sign-in whose first step was right waits for a second factor, or for one to be enrolled."""
    STEPPED_UP = "stepped_up"
    """The owner of a live session proved more, or anew."""
    STEP_UP_FAILED = "step_up_failed"
    FACTOR_ADDED = "factor_added"
    FACTOR_REMOVED = "factor_removed"
    FACTORS_RESET = "factors_reset"
    """By an operator: all of an account."""
    RECOVERY_CODES_MADE = "recovery_codes_made"
    RECOVERY_CODE_USED = "recovery_code_used"
    """In the place of a factor: `left` says how many there still are."""
    SIGNED_OUT = "signed_out"
    SESSION_ENDED = "session_ended"
    SESSION_HANDED_OVER = "session_handed_over"
    """Another host got a cookie of its own for it."""
    REFRESH_REPEATED = "refresh_repeated"
    """The same client asked again for the successor that it had been given."""
    REFRESH_REUSED = "refresh_reused"
    REGISTERED = "registered"
    EMAIL_VERIFIED = "email_verified"
    EMAIL_CHANGE_REQUESTED = "email_change_requested"
    """The new e-mail address is to confirm it."""
    EMAIL_CHANGED = "email_changed"
    PASSWORD_CHANGED = "password_changed"  # noqa: S105 (the name of an event)
    PASSWORD_RESET_REQUESTED = "password_reset_requested"  # noqa: S105
    PASSWORD_RESET = "password_reset"  # noqa: S105
    PERSONAL_KEY_CREATED = "personal_key_created"
    PERSONAL_KEY_ENDED = "personal_key_ended"
    PASSKEY_RENAMED = "passkey_renamed"
    PASSKEY_BACKUP_CHANGED = "passkey_backup_changed"
    """It is now backed up (its device's cloud has a copy), or no more."""
    PASSKEY_REFUSED = "passkey_refused"
    """Its signature was good, and it may have been copied."""
    PROVIDER_LINKED = "provider_linked"
    PROVIDER_UNLINKED = "provider_unlinked"
    ACCOUNT_CHANGED = "account_changed"
    ROLE_CHANGED = "role_changed"
    ATTRIBUTES_CHANGED = "attributes_changed"
    TENANT_CHANGED = "tenant_changed"
    """An account was given a role in a tenant, or taken out of it."""
    TENANT_CHOSEN = "tenant_chosen"
    CLIENT_CHANGED = "client_changed"
    CLIENT_TOKEN = "client_token"  # noqa: S105
    KEY_CHANGED = "key_changed"
    REVOKED = "revoked"
    CONFIGURATION = "configuration"
    CONSOLE_OPENED = "console_opened"
    """Somebody signed in to the operator's console, or tried to."""
    MAIL_CHANGED = "mail_changed"
    """By an operator: a mail of the outbox is sent now, or never."""
    MAIL_READ = "mail_read"
    """By an operator: the mails that nobody sends, and the links in them."""
    ISSUERS_CHECKED = "issuers_checked"
    AUDIT_CHECKED = "audit_checked"
    """By an operator, in the console: the chains are read and checked."""
    AUDIT_EXPORTED = "audit_exported"
    RESTORED = chain.RESTORED
    """A backup took the place of the data: of when it was, and whether rows were lost."""
    PRUNED = chain.PRUNED
    """Rows that were too old went; `cuts` says up to where, chain by chain."""


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """`subject` is whom it happened to, `actor` who did it, where that is somebody else."""

    kind: AuditKind
    result: str = "ok"
    """`ok`, or the Reason."""
    subject: str | None = None
    actor: str | None = None
    address: str | None = None
    """The client's IP address."""
    request_id: str | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class _Link:
    position: int
    at_ms: int
    line: str
    hash: str


class AuditLog:
    """One writer.  `record` and `denied` may be called from the loop at any time."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        pseudonym_key: bytes,
        chain_key: bytes,
        *,
        writer: str | None = None,
        queue: int = _QUEUE,
        dropped: Tally | None = None,
    ) -> None:
        """`pseudonym_key`, `chain_key`: `derived_key` of KeyPurpose.AUDIT_ADDRESS, AUDIT_CHAIN.
        `writer` names the chain, which bears the key's name besides."""
        self.chain = ChainKey(chain_key)
        self.writer = self.chain.writer(writer or secrets.token_hex(8))
        self.dropped = Tally() if dropped is None else dropped
        self._database = database
        self._clock = clock
        self._pseudonym_key = pseudonym_key
        self._room = queue
        self._queue: deque[tuple[float, AuditEvent]] = deque()
        self._denials: dict[tuple[str, str, str], int] = {}
        self._unreported = 0
        self._pending: list[_Link] = []
        self._head = (0, GENESIS)
        self._begun = False
        self._woken = asyncio.Event()

    def record(self, event: AuditEvent) -> None:
        if len(self._queue) >= self._room:
            self.dropped.n += 1
            self._unreported += 1
            return
        self._queue.append((self._clock.now(), event))
        if len(self._queue) >= _BATCH:
            self._woken.set()

    def denied(self, reason: str, route: str | None, subject: str | None) -> None:
        """Counts one denial.  A stranger can make as many as they like: they cost a row a
        minute, not a row each."""
        key = (reason, route or "", subject or "")
        if key not in self._denials and len(self._denials) >= _DENIALS:
            key = (reason, route or "", OTHERS)
        self._denials[key] = self._denials.get(key, 0) + 1

    def pseudonym(self, normalized_email: str) -> str:
        """A pseudonym of an e-mail address that no account has: equal for equal addresses, and
        of no use without the installation's secret."""
        digest = hmac.digest(self._pseudonym_key, normalized_email.encode(), hashlib.sha256)
        return encoded(digest[:16])

    async def run(self) -> None:
        """Writes until it is cancelled; what is then queued is written by `close`."""
        next_minute = self._clock.steady() + 60
        next_hour = self._clock.steady() + 3600
        unavailable = False
        while True:
            # Not wait_for: Python 3.11's loses a cancellation that comes with the event.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_EVERY_S):
                    await self._woken.wait()
            self._woken.clear()
            if self._clock.steady() >= next_minute:
                next_minute = self._clock.steady() + 60
                self._record_denials()
            try:
                await self.flush()
                unavailable = False
            except StoreUnavailable as error:
                if not unavailable:  # logged once, and not each second until it is back
                    log.warning(
                        "audit-unreachable",
                        store=error.store,
                        why=error.detail,
                        queued=len(self._queue),
                    )
                unavailable = True
            if self._clock.steady() >= next_hour:
                next_hour = self._clock.steady() + 3600
                self.log_head()

    async def close(self) -> None:
        """Writes what is left, if the store lets it; never raises StoreUnavailable."""
        self._record_denials()
        try:
            await self.flush()
        except StoreUnavailable:
            self.dropped.n += len(self._queue) + len(self._pending)
            log.warning("audit-lost", events=len(self._queue) + len(self._pending))
        self.log_head()

    def log_head(self) -> None:
        """To the ordinary log, which is kept elsewhere: `gateway audit verify --head` takes it."""
        position, digest = self._head
        if position:
            log.info("audit-head", head=f"{self.writer}:{position}:{digest}")

    async def flush(self) -> None:
        """Writes everything that is queued.  Raises StoreUnavailable; nothing is lost by it."""
        while self._pending or self._queue or self._unreported:
            if not self._pending:
                self._pending = await self._next_batch()
            async with self._database.transaction() as tx:
                # The commit of a try that failed may have reached the store: the same rows
                # again are the same, and change nothing.
                await tx.many(
                    "INSERT INTO audit_events (writer, position, at_ms, line, hash)"
                    " VALUES (:writer, :position, :at_ms, :line, :hash)"
                    " ON CONFLICT (writer, position) DO NOTHING",
                    [
                        {
                            "writer": self.writer,
                            "position": link.position,
                            "at_ms": link.at_ms,
                            "line": link.line,
                            "hash": link.hash,
                        }
                        for link in self._pending
                    ],
                )
            self._head = (self._pending[-1].position, self._pending[-1].hash)
            self._pending = []

    async def _next_batch(self) -> list[_Link]:
        now = self._clock.now()
        events: list[tuple[float, AuditEvent]] = []
        if not self._begun:
            async with self._database.read_transaction() as tx:
                before = await heads(tx, _HEADS_KEPT)
            started = AuditEvent(AuditKind.WRITER_STARTED, detail={"heads": before})
            # It is the first of its chain, and of what is shown by time, too.
            events.append((min([now, *(at for at, _ in self._queue)]), started))
            self._begun = True
        if self._unreported:
            lost = AuditEvent(AuditKind.DROPPED, detail={"count": self._unreported})
            events.append((now, lost))
            self._unreported = 0
        while self._queue and len(events) < _BATCH:
            events.append(self._queue.popleft())
        links = []
        position, digest = self._head
        for at, event in events:
            position += 1
            line = _line(at, event)
            digest = self.chain.chained(digest, self.writer, position, line)
            links.append(_Link(position, milliseconds(json.loads(line)["at"]), line, digest))
        return links

    def _record_denials(self) -> None:
        counted, self._denials = self._denials, {}
        for (reason, route, subject), count in counted.items():
            self.record(
                AuditEvent(
                    AuditKind.DENIED,
                    result=reason,
                    subject=subject or None,
                    detail={"route": route or None, "count": count},
                )
            )


async def newest(tx: Transaction, limit: int) -> list[dict[str, Any]]:
    """The newest events, oldest of them first."""
    rows = await tx.all(
        "SELECT writer, position, line, hash FROM audit_events"
        " ORDER BY at_ms DESC, writer DESC, position DESC LIMIT :limit",
        limit=limit,
    )
    return [event_of(row) for row in reversed(rows)]


@dataclass(frozen=True, slots=True)
class EventPosition:
    """Where an event stands in the order of time."""

    at_ms: int
    writer: str
    position: int


def position_of(event: Mapping[str, Any]) -> EventPosition:
    """`event` as `event_of` gave it."""
    return EventPosition(milliseconds(event["at"]), event["writer"], event["position"])


async def after(database: Database, last: EventPosition) -> AsyncIterator[dict[str, Any]]:
    """Every event behind `last`, oldest first, read a page at a time."""
    while True:
        async with database.read_transaction() as tx:
            rows = await tx.all(
                "SELECT writer, position, at_ms, line, hash FROM audit_events WHERE at_ms > :at"
                " OR (at_ms = :at AND (writer > :writer OR (writer = :writer"
                " AND position > :position))) ORDER BY at_ms, writer, position LIMIT 1000",
                at=last.at_ms,
                writer=last.writer,
                position=last.position,
            )
        for row in rows:
            last = EventPosition(int(row["at_ms"]), str(row["writer"]), int(row["position"]))
            yield event_of(row)
        if not rows:
            return


def event_of(row: Row) -> dict[str, Any]:
    """A row as one JSON object of the export."""
    parsed: dict[str, Any] = json.loads(row["line"])
    return {
        **parsed,
        "writer": row["writer"],
        "position": row["position"],
        "hash": row["hash"],
    }


def _line(at: float, event: AuditEvent) -> str:
    """The event as JSON; its text cannot end the line (ASVS 16.4.1)."""
    when = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
    fields: dict[str, Any] = {"at": when, "event": event.kind.value, "result": str(event.result)}
    for name in ("subject", "actor", "address", "request_id"):
        value = getattr(event, name)
        if value is not None:
            fields[name] = str(value)[:_LONGEST_TEXT]
    if event.detail:
        fields["detail"] = {
            name: value[:_LONGEST_TEXT] if isinstance(value, str) else value
            for name, value in event.detail.items()
        }
    return json.dumps(fields, separators=(",", ":"))
