"""The access log: a line for every refusal, and for as many of the other answers as are wanted.

Law: it never holds up traffic.  On the path of a request an entry is queued, and none for what was
allowed unless these are asked for; a task builds and writes the lines twice a second, in a thread.
The queue is bounded, and so many refusals of one reason are taken that a rare one is written beside
a flood; what finds no room is counted.

The newest refusals are kept in memory, so that `gateway why` can ask the worker that refused.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import structlog

from gateway.access.authorizer import Decision
from gateway.access.decision_record import kept_call, record_of
from gateway.model import Call, Clock, Reason
from gateway.telemetry.access_record import (
    AnsweredRequest,
    as_combined,
    as_json,
    fields_of_decision,
    fields_of_request,
)
from gateway.telemetry.line_sink import LineSink, LinesLost
from gateway.telemetry.metrics import Tally

log = structlog.get_logger(__name__)

WRITE_EVERY_S = 0.5
MAX_REFUSALS = 1_000
MAX_OF_A_REASON = 800
"""Refusals in each WRITE_EVERY_S, of each worker: what more there are is a flood."""
MAX_WAITING = 20_000
REMEMBERED = 500
"""Refusals that a worker can be asked for."""
MAX_WATCHED = 100
"""Refusals of one WRITE_EVERY_S that are shown to who watches."""
PATIENCE_S, LAST_PATIENCE_S = 2.0, 0.2
MAX_BODY_CHARACTERS = 2_000
"""Of the fields of a body that a policy read, in what is remembered of one refusal."""


Watcher = Callable[[list[dict[str, Any]], int], None]
"""Takes refusals, as `AccessLog.find` gives them, and how many more there were."""


@dataclass(frozen=True, slots=True)
class AccessLogOptions:
    sample: float | None = 0.0
    """The share of good answers that is written; None writes nothing, refusals neither."""
    combined: bool = False
    path: Path | None = None
    """None is standard output."""


@dataclass(slots=True)
class _Entry:
    at: float
    reason: str | None
    request: AnsweredRequest | None
    route_id: str = ""
    decided: tuple[Call, Decision, int, str, str] | None = None
    """Call, decision, status, request id and version of the configuration."""
    took_s: float = 0.0
    forgets_body: bool = False
    """Its fields were too long to be remembered."""

    @property
    def request_id(self) -> str:
        if self.decided is not None:
            return self.decided[3]
        return self.request.request_id if self.request is not None else ""

    def record(self) -> dict[str, Any] | None:
        """As the decision log has it; None where nothing was decided."""
        if self.decided is None:
            return None
        call, decision, status, request_id, version = self.decided
        record = record_of(
            call,
            decision,
            at=self.at,
            status=status,
            request_id=request_id,
            version=version,
            took_s=self.took_s,
        )
        if self.forgets_body:
            record.pop("body", None)
        return record

    def fields(self, record: dict[str, Any] | None, worker: int) -> dict[str, Any]:
        """Those of its line."""
        if record is not None:
            headers = self.decided[0].headers if self.decided is not None else ()
            return fields_of_decision(record, headers, took_s=self.took_s, worker=worker)
        assert self.request is not None
        return fields_of_request(
            self.request, self.reason, route_id=self.route_id, at=self.at, worker=worker
        )

    def forget_call(self) -> None:
        """What is remembered holds no header field, and so no credential."""
        self.decided = None
        if self.request is not None:
            self.request.headers = ()


@dataclass(frozen=True, slots=True)
class _Refusal:
    """One that is remembered; its fields are made when it is asked for."""

    request_id: str
    entry: _Entry
    record: dict[str, Any] | None


class AccessLog:
    """`edge.replies.observers.DecisionObserver` of one worker."""

    def __init__(
        self,
        options: AccessLogOptions,
        clock: Clock,
        version: Callable[[], str],
        *,
        dropped: Tally | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._options = options
        self._sample = options.sample or 0.0
        self._clock = clock
        self._version = version
        self._dropped = dropped or Tally()
        self._chance = chance
        self._sink = LineSink(options.path)
        self._waiting: deque[_Entry] = deque()
        self._writing: Sequence[_Entry] = ()
        self._refusals: Counter[str] = Counter()
        """Those that wait, by reason, and all of them under the empty word."""
        self._remembered: deque[_Refusal] = deque(maxlen=REMEMBERED)
        self._worker = os.getpid()
        self._failed = False
        self.watcher: Watcher | None = None
        """Who is told of refusals as they are written: nobody, unless somebody looks at them."""

    @property
    def takes_allowed(self) -> bool:
        return self._sample > 0.0

    @property
    def dropped(self) -> int:
        """Lines that were not written: there was no room, or nobody took them."""
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
        reason = None if decision.allowed else str(decision.reason)
        if self._has_room(reason):
            call, characters = kept_call(call, decision.route)
            forgets_body = characters > MAX_BODY_CHARACTERS
            if forgets_body:
                call = replace(call, body=None)
            decided = (call, decision, status, request_id, self._version())
            at = self._clock.now()
            self._waiting.append(_Entry(at, reason, None, "", decided, took_s, forgets_body))

    def refused(self, reason: Reason, route_id: str, request: AnsweredRequest) -> None:
        if self._has_room(reason):
            self._waiting.append(_Entry(self._clock.now(), reason, request, route_id))

    def answered(self, reason: str | None, request: AnsweredRequest) -> None:
        if self._has_room(reason):
            self._waiting.append(_Entry(self._clock.now(), reason, request))

    def find(self, request_id: str) -> dict[str, Any] | None:
        """A refusal of the last ones, or None: `access` holds the fields of its line, `decision`
        the record of the decision log, None where nothing was decided.  It is the first of that id:
        a later one bears what a client sent, who may have seen the id of another.  `later` says
        how many there are."""
        found = [
            *((one.entry, one.record) for one in self._remembered if one.request_id == request_id),
            *((one, None) for one in self._not_written() if one.request_id == request_id),
        ]
        if not found:
            return None
        entry, record = found[0]
        shown = self._shown(entry, record or entry.record())
        return {**shown, "later": len(found) - 1}

    def _not_written(self) -> Sequence[_Entry]:
        """What is, and is not remembered yet, the newest last."""
        return (*self._writing, *self._waiting)

    def recent(self, most: int) -> list[dict[str, Any]]:
        """The last refusals, as `find` gives them, the newest last."""
        return [self._shown(one.entry, one.record) for one in list(self._remembered)[-most:]]

    async def run(self) -> None:
        """Writes what waits, again and again; the rest when it is cancelled."""
        try:
            while True:
                await asyncio.sleep(WRITE_EVERY_S)
                await self.flush()
        finally:
            self._write(self._taken(), LAST_PATIENCE_S)
            self._sink.close()

    async def flush(self) -> None:
        entries = self._taken()
        if not entries:
            return
        self._writing = entries
        try:
            # A reader of the log that has stopped must not stop the loop.
            records = await asyncio.to_thread(self._write, entries, PATIENCE_S)
            if self.watcher is not None:
                self._tell(self.watcher, entries, records)
            self._remember(entries, records)
        finally:
            self._writing = ()

    def _tell(
        self,
        watcher: Watcher,
        entries: Sequence[_Entry],
        records: Sequence[dict[str, Any] | None],
    ) -> None:
        refusals = [
            pair for pair in zip(entries, records, strict=True) if pair[0].reason is not None
        ]
        shown = refusals[-MAX_WATCHED:]
        watcher([self._shown(*pair) for pair in shown], len(refusals) - len(shown))

    def _has_room(self, reason: str | None) -> bool:
        if reason is None:
            sample = self._sample
            if not sample or (sample < 1.0 and self._chance() >= sample):
                return False
            room = len(self._waiting) < MAX_WAITING
        else:
            refusals = self._refusals
            room = refusals[reason] < MAX_OF_A_REASON and refusals[""] < MAX_REFUSALS
            if room:
                refusals[reason] += 1
                refusals[""] += 1
        if not room:
            self._dropped.n += 1
        return room

    def _taken(self) -> list[_Entry]:
        entries = list(self._waiting)
        self._waiting.clear()
        self._refusals.clear()
        # Where nothing is written, what is not remembered is not even built.
        return entries if self._options.sample is not None else entries[-REMEMBERED:]

    def _remember(
        self, entries: Sequence[_Entry], records: Sequence[dict[str, Any] | None]
    ) -> None:
        for entry, record in zip(entries, records, strict=True):
            if entry.reason is not None:
                self._remembered.append(_Refusal(entry.request_id, entry, record))
                entry.forget_call()

    def _write(self, entries: Sequence[_Entry], patience_s: float) -> list[dict[str, Any] | None]:
        """The records of the entries; where a log is wanted, their lines are written."""
        options = self._options
        records = [entry.record() for entry in entries]
        if options.sample is None or not entries:
            return records
        render = as_combined if options.combined else as_json
        lines = [
            render(entry.fields(record, self._worker))
            for entry, record in zip(entries, records, strict=True)
        ]
        try:
            self._sink.write(lines, patience_s)
            self._failed = False
        except LinesLost as error:
            if not self._failed:
                log.warning("access-log-not-written", why=error.why)
            self._failed = True
            self._dropped.n += error.lost
        return records

    def _shown(self, entry: _Entry, record: dict[str, Any] | None) -> dict[str, Any]:
        return {"access": entry.fields(record, self._worker), "decision": record}
