"""The decision log: JSON lines, sampled, rotated, without secrets.

On the path of a request only a reference is kept, and of a body what a policy read; a task builds
and writes the lines, in a thread.  A queue that is full drops, and counts what it dropped: the log
must never hold up traffic.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import structlog

from gateway.access.authorizer import Decision
from gateway.access.decision_record import kept_call, record_of
from gateway.model import Call, Clock, Reason
from gateway.telemetry.access_record import AnsweredRequest
from gateway.telemetry.metrics import Tally

log = structlog.get_logger(__name__)

WRITE_EVERY_S = 0.25
MAX_WAITING = 20_000
MAX_BODY_CHARACTERS = 10_000_000
"""Of the fields of bodies that policies read, in all records that wait: a disk may be slow."""


@dataclass(frozen=True, slots=True)
class DecisionLogOptions:
    """`sample` is the share of allowed calls that are written; denials are written always."""

    folder: Path
    sample: float = 1.0
    workers: int = 1
    """How many write into the folder at once, each a file of its own."""
    total_bytes: int = 512 * 1024 * 1024
    """Of all files of the folder, those that they write included."""
    total_files: int = 16

    @property
    def file_bytes(self) -> int:
        """When a file has so many the next is begun: what is written takes half of the room."""
        return min(32 * 1024 * 1024, self.total_bytes // (2 * self.workers))

    @property
    def most_files(self) -> int:
        return max(self.total_files, 2 * self.workers)


@dataclass(slots=True)
class _LoggedDecision:
    at: float
    call: Call
    decision: Decision
    status: int
    request_id: str
    version: str
    took_s: float


class DecisionLog:
    """A `DecisionObserver` of one worker.  Each worker writes files of its own."""

    takes_allowed = True

    def __init__(
        self,
        options: DecisionLogOptions,
        clock: Clock,
        version: Callable[[], str],
        *,
        name: str | None = None,
        chance: Callable[[], float] = random.random,
        dropped: Tally | None = None,
    ) -> None:
        self._options = options
        self._clock = clock
        self._version = version
        self._chance = chance
        self._waiting: deque[_LoggedDecision] = deque()
        self._body_characters = 0
        """Of those that wait."""
        self._name = name or str(os.getpid())
        self._path = options.folder / f"decisions-{self._name}.jsonl"
        self._dropped = Tally() if dropped is None else dropped
        self._begun = False
        self._failed = False

    @property
    def dropped(self) -> int:
        """Records that were not written, since the queue or the disk was full."""
        return self._dropped.n

    def decided(
        self,
        call: Call | None,
        decision: Decision | None,
        status: int,
        request_id: str,
        took_s: float = 0.0,
    ) -> None:
        if call is None or decision is None:
            return
        sampled = self._options.sample >= 1.0 or self._chance() < self._options.sample
        if decision.allowed and not decision.shadowed and not sampled:
            return
        call, characters = kept_call(call, decision.route)
        full = self._body_characters + characters > MAX_BODY_CHARACTERS
        if full or len(self._waiting) >= MAX_WAITING:
            self._dropped.n += 1
            return
        self._body_characters += characters
        at, version = self._clock.now(), self._version()
        self._waiting.append(
            _LoggedDecision(at, call, decision, status, request_id, version, took_s)
        )

    def refused(self, reason: Reason, route_id: str, request: AnsweredRequest) -> None:
        """What never became a call has nothing that a policy could judge."""

    def answered(self, reason: str | None, request: AnsweredRequest) -> None:
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

    def _taken(self) -> list[_LoggedDecision]:
        entries = list(self._waiting)
        self._waiting.clear()
        self._body_characters = 0
        return entries

    def _write(self, entries: list[_LoggedDecision]) -> None:
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
                    took_s=entry.took_s,
                ),
                separators=(",", ":"),
            )
            for entry in entries
        ]
        try:
            self._options.folder.mkdir(mode=0o700, exist_ok=True)
            self._rotate()
            descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            with os.fdopen(descriptor, "a", encoding="utf-8") as file:
                file.write("\n".join(lines) + "\n")
            self._failed = False
        except OSError as error:
            # A full disk loses records, never requests.
            if not self._failed:
                log.warning("decision-log-not-written", why=error.strerror)
            self._failed = True
            self._dropped.n += len(lines)

    def _rotate(self) -> None:
        try:
            full = self._path.stat().st_size >= self._options.file_bytes
        except FileNotFoundError:
            full = False
        if full:
            at_ms = int(self._clock.now() * 1000)
            self._path.rename(self._path.with_name(f"decisions-{self._name}-{at_ms}.jsonl"))
        if full or not self._begun:
            self._begun = True
            _prune(self._options, self._path)


def _prune(options: DecisionLogOptions, own: Path) -> None:
    """Deletes the oldest files, so that the folder is bounded however many workers have lived.

    The files that others write now grow by as much again before they are rotated; one that was
    deleted for its age is created again at the next line.
    """
    others = []
    for path in options.folder.glob("decisions-*.jsonl"):
        with suppress(FileNotFoundError):
            if path != own:
                state = path.stat()
                others.append((state.st_mtime, state.st_size, path))
    room = options.total_bytes // 2
    for number, (_, size, path) in enumerate(sorted(others, reverse=True), start=1):
        room -= size
        if number >= options.most_files or room < 0:
            path.unlink(missing_ok=True)  # another worker may have been faster
