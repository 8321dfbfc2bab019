"""The decision log: JSON lines, sampled, rotated, without secrets.

On the path of a request only a reference is kept; what is written is made and written by a
task, in a thread.  A queue that is full drops, and counts what it dropped: the log must
never hold up traffic.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import structlog

from gateway.access.decision import Decision
from gateway.access.records import record_of
from gateway.model import Call, Clock, Reason

log = structlog.get_logger(__name__)

WRITE_EVERY_S = 0.25
MAX_WAITING = 20_000


@dataclass(frozen=True, slots=True)
class JournalOptions:
    """`sample` is the share of allowed calls that are written; denials are written always."""

    folder: Path
    sample: float = 1.0
    file_bytes: int = 32 * 1024 * 1024
    files: int = 4
    """How many files a worker keeps, the one it writes included."""


@dataclass(slots=True)
class _Entry:
    at: float
    call: Call
    decision: Decision
    status: int
    request_id: str
    version: str


class DecisionLog:
    """`edge.record.Journal` of one worker.  Each worker writes files of its own."""

    takes_allowed = True

    def __init__(
        self,
        options: JournalOptions,
        clock: Clock,
        version: Callable[[], str],
        *,
        name: str | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._options = options
        self._clock = clock
        self._version = version
        self._chance = chance
        self._waiting: deque[_Entry] = deque()
        self._path = options.folder / f"decisions-{name or os.getpid()}.jsonl"
        self.dropped = 0
        self.written = 0

    def decided(
        self, call: Call | None, decision: Decision | None, status: int, request_id: str
    ) -> None:
        if call is None or decision is None:
            return
        sampled = self._options.sample >= 1.0 or self._chance() < self._options.sample
        if decision.allowed and not decision.shadowed and not sampled:
            return
        if len(self._waiting) >= MAX_WAITING:
            self.dropped += 1
            return
        at, version = self._clock.now(), self._version()
        self._waiting.append(_Entry(at, call, decision, status, request_id, version))

    def refused(self, reason: Reason, route_id: str, request_id: str) -> None:
        """What never became a call has nothing that a policy could judge."""

    def answered(self, reason: str, status: int, method: str, request_id: str) -> None:
        """No policy judges the gateway's own endpoints."""

    async def run(self) -> None:
        """Writes what waits, again and again; the rest when it is cancelled."""
        try:
            while True:
                await asyncio.sleep(WRITE_EVERY_S)
                await self.flush()
        finally:
            self._write(self._taken())

    async def flush(self) -> None:
        entries = self._taken()
        if entries:
            await asyncio.to_thread(self._write, entries)

    def _taken(self) -> list[_Entry]:
        entries = list(self._waiting)
        self._waiting.clear()
        return entries

    def _write(self, entries: list[_Entry]) -> None:
        if not entries:
            return
        lines = [
            json.dumps(
                record_of(
                    entry.call,
                    entry.decision,
                    at=entry.at,
                    status=entry.status,
                    request_id=entry.request_id,
                    version=entry.version,
                ),
                separators=(",", ":"),
            )
            for entry in entries
        ]
        try:
            self._options.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._rotate()
            descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            with os.fdopen(descriptor, "a", encoding="utf-8") as file:
                file.write("\n".join(lines) + "\n")
            self.written += len(lines)
        except OSError as error:
            # A full disk loses records, never requests.
            if self.dropped == 0:
                log.warning("decision-log-not-written", error=error.strerror)
            self.dropped += len(lines)

    def _rotate(self) -> None:
        try:
            if self._path.stat().st_size < self._options.file_bytes:
                return
        except FileNotFoundError:
            return
        for number in range(self._options.files - 1, 0, -1):
            older = self._path.with_suffix(f".{number}.jsonl")
            newer = self._path.with_suffix(f".{number - 1}.jsonl") if number > 1 else self._path
            if newer.exists():
                os.replace(newer, older)


class Journals:
    """Several journals, each told of everything."""

    def __init__(self, *journals: _Journal) -> None:
        self._journals = journals

    @property
    def takes_allowed(self) -> bool:
        return any(journal.takes_allowed for journal in self._journals)

    def decided(
        self, call: Call | None, decision: Decision | None, status: int, request_id: str
    ) -> None:
        for journal in self._journals:
            journal.decided(call, decision, status, request_id)

    def refused(self, reason: Reason, route_id: str, request_id: str) -> None:
        for journal in self._journals:
            journal.refused(reason, route_id, request_id)

    def answered(self, reason: str, status: int, method: str, request_id: str) -> None:
        for journal in self._journals:
            journal.answered(reason, status, method, request_id)


class _Journal(Protocol):
    """As `edge.record.Journal`, which this room does not know of."""

    @property
    def takes_allowed(self) -> bool: ...

    def decided(
        self, call: Call | None, decision: Decision | None, status: int, request_id: str
    ) -> None: ...

    def refused(self, reason: Reason, route_id: str, request_id: str) -> None: ...

    def answered(self, reason: str, status: int, method: str, request_id: str) -> None: ...
