"""`/admin/audit`: the audit log searched, its chains checked beside the traffic, and read out.

Law: the log is read by pages of an index, checked in the background, and read out as a stream that
ends at a bound and says whether it was all.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from gateway.audit.background_check import BackgroundCheck
from gateway.audit.log import AuditEvent, AuditKind, EventPosition
from gateway.audit.operator_events import operator_event
from gateway.audit.search import EventFilter, search
from gateway.edge.console.keyset import PAGE_ROWS, listing, position
from gateway.edge.console.pages import (
    Acted,
    ConsoleAction,
    ConsolePage,
    ConsoleRequest,
    NotDone,
    View,
)
from gateway.edge.console.shown_events import shown_events
from gateway.edge.endpoints.audit_events import AuditSink
from gateway.model import Clock
from gateway.stores.protocols import Database, StoreUnavailable

AUDIT = "/admin/audit"
EXPORT = f"{AUDIT}/export"
EXPORTED_MAX = 100_000
_EXPORT_PAGE = 500
_WORDS = ("event", "subject", "actor", "since", "until")


@dataclass(frozen=True, slots=True)
class AuditPageDependencies:
    database: Database
    check: BackgroundCheck
    audit: AuditSink
    clock: Clock
    exported_max: int = EXPORTED_MAX


class AuditPage:
    def __init__(self, dependencies: AuditPageDependencies) -> None:
        self._deps = dependencies

    def pages(self) -> Sequence[ConsolePage]:
        return [
            ConsolePage(
                AUDIT,
                "Audit log",
                self.show,
                actions={"check": ConsoleAction(self.check, fresh=False)},
                notices={"check": "The chains are being checked: this page says how far it is."},
            ),
            ConsolePage(
                EXPORT,
                "Export",
                self.show,
                section=AUDIT,
                stream=self.export,
                stream_type="application/x-ndjson",
                stream_file="audit.jsonl",
            ),
        ]

    async def show(self, request: ConsoleRequest) -> View:
        words = {name: value for name in _WORDS if (value := request.query(name, 256))}
        wanted, wrong = _filter(words)
        after = request.query("after", 2_000)
        before = _before(after)
        rows = []
        if wanted is not None:
            rows = await search(self._deps.database, wanted, before, PAGE_ROWS + 1)
        found = listing(rows, lambda one: _key(one.position), after if before else "")
        now = self._deps.clock.now()
        state = await self._deps.check.state()
        values = {
            "found": found,
            "events": shown_events(found.rows),
            "words": words,
            "wrong": wrong,
            "kinds": sorted(AuditKind),
            "check": state,
            "is_running": state is not None and state.is_running(now),
            "path": AUDIT,
            "export": EXPORT,
            "exported_max": self._deps.exported_max,
        }
        return View("audit.html", values)

    async def check(self, request: ConsoleRequest) -> Acted | NotDone:
        if not await self._deps.check.begin(self._deps.database):
            return NotDone("A check runs already.", status=409)
        return Acted([operator_event(AuditKind.AUDIT_CHECKED, None, "begun")], notice="check")

    async def export(self, request: ConsoleRequest) -> AsyncGenerator[str, None]:
        words = {name: value for name in _WORDS if (value := request.query(name, 256))}
        wanted, wrong = _filter(words)
        event = operator_event(AuditKind.AUDIT_EXPORTED, None, "exported", **words)
        self._deps.audit.record(
            AuditEvent(
                event.kind,
                actor=request.operator.actor,
                address=request.call.client_ip,
                request_id=request.request_id,
                detail={**event.detail, "by": "console"},
            )
        )
        count, before, complete, why = 0, None, wanted is not None, "; ".join(wrong.values())
        while wanted is not None:
            most = min(_EXPORT_PAGE, self._deps.exported_max - count)
            try:
                rows = await search(self._deps.database, wanted, before, most + 1)
            except StoreUnavailable as error:
                complete, why = False, f"{error.store} could not be reached"
                break
            shown = rows[:most]
            if shown:
                yield "".join(json.dumps(one.event, separators=(",", ":")) + "\n" for one in shown)
                count, before = count + len(shown), shown[-1].position
            if len(rows) <= most:
                break
            if count >= self._deps.exported_max:
                complete, why = False, f"no more than {count} at once: go on with `until`"
                break
        end = {"exported": count, "complete": complete, **({"why": why} if why else {})}
        yield json.dumps({"end": end}, separators=(",", ":")) + "\n"


def _filter(words: dict[str, str]) -> tuple[EventFilter | None, dict[str, str]]:
    """None where a word is wrong: which, and what would be right."""
    wrong: dict[str, str] = {}
    times: dict[str, int | None] = {}
    for name in ("since", "until"):
        try:
            times[name] = _milliseconds(words[name]) if name in words else None
        except (ValueError, OverflowError):
            wrong[name] = "A time is such as 2026-11-28 or 2026-11-28T04:00, in UTC."
    if not all(value.isprintable() for value in words.values()):
        wrong["event"] = "A word holds a character that no event holds."
    if wrong:
        return None, wrong
    return EventFilter(
        words.get("event", ""),
        words.get("subject", ""),
        words.get("actor", ""),
        times["since"],
        times["until"],
    ), wrong


def _milliseconds(text: str) -> int:
    at = datetime.fromisoformat(text)
    return round((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)


def _key(at: EventPosition) -> Sequence[object]:
    return at.at_ms, at.writer, at.position


def _before(after: str) -> EventPosition | None:
    match position(after, int, str, int):
        case [int(at_ms), str(writer), int(number)]:
            return EventPosition(at_ms, writer, number)
    return None
