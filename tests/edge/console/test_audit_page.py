"""The audit log in the console: searched, checked in the background, read out."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from gateway.audit.background_check import BackgroundCheck
from gateway.audit.chain import ChainKey
from gateway.audit.log import AuditEvent, AuditKind, AuditLog
from gateway.edge.console.audit_page import AUDIT, EXPORT, AuditPage, AuditPageDependencies
from gateway.stores.protocols import Database
from tests.databases import Hands
from tests.edge.console.house import ConsoleHouse, Events, console_house


@dataclass
class Audited:
    house: ConsoleHouse
    events: Events
    csrf: str

    async def shown(self, words: str = "") -> str:
        answer = await self.house.ask(f"{AUDIT}{words}")
        assert answer.status == 200, answer.text
        return answer.text

    async def exported(self, words: str = "") -> list[dict[str, object]]:
        answer = await self.house.ask(f"{EXPORT}{words}")
        assert answer.status == 200
        assert answer.headers["Content-Type"] == "application/x-ndjson"
        assert answer.headers["Content-Disposition"] == 'attachment; filename="audit.jsonl"'
        return [json.loads(line) for line in answer.text.splitlines()]


@pytest.fixture
async def audited(sqlite_database: Database) -> AsyncIterator[Audited]:
    async def keys() -> list[ChainKey]:
        return []

    clock, events = Hands(), Events()
    log = AuditLog(sqlite_database, clock, b"p" * 32, b"c" * 32, writer="w")
    for number in range(120):
        clock.move(1)
        log.record(AuditEvent(AuditKind.SIGNED_IN, subject=f"u{number}", detail={"x": "<script>"}))
    log.record(AuditEvent(AuditKind.ROLE_CHANGED, subject="u7", actor="cli:<root>"))
    await log.flush()
    check = BackgroundCheck(sqlite_database, clock, keys)
    page = AuditPage(AuditPageDependencies(sqlite_database, check, events, clock, exported_max=100))
    async with console_house(*page.pages()) as house:
        yield Audited(house, events, await house.sign_in())


async def test_events_are_shown_the_newest_first_and_escaped(audited: Audited) -> None:
    first = await audited.shown()
    assert "cli:&lt;root&gt;" in first
    assert "x=&lt;script&gt;" in first
    assert "<script>" not in first.replace('<script src="', "")
    assert ">u119<" in first
    assert ">u20<" not in first
    following = re.search(r'rel="next" href="([^"]+)"', first)
    assert following is not None
    second = await audited.shown(following[1].replace("&amp;", "&").removeprefix(AUDIT))
    assert ">u119<" not in second
    assert ">u60<" in second


@pytest.mark.parametrize(
    ("words", "there", "absent"),
    [
        ("?subject=u7", ">role_changed<", ">u8<"),
        ("?event=role_changed", ">u7<", ">signed_in<"),
        ("?actor=cli%3A%3Croot%3E", ">u7<", ">u8<"),
        ("?subject=u7&event=signed_in", ">u7<", ">role_changed<"),
        ("?since=2100-01-01", "No event matches.", ">u7<"),
        ("?until=2020-01-01", "No event matches.", ">u7<"),
        ("?since=yesterday", "A time is such as", ">u7<"),
        ("?since=9999-12-31T23:59:59-23:59", "", ">u7<"),
        ("?after=bogus", ">u119<", ">u20<"),
    ],
)
async def test_a_search_finds_what_was_asked_for(
    audited: Audited, words: str, there: str, absent: str
) -> None:
    shown = (await audited.shown(words)).partition("<h2>")[0]
    assert there in shown
    assert absent not in shown.partition("<datalist")[0] + shown.partition("</datalist>")[2]


async def test_events_are_read_out_and_it_is_told_by_whom(audited: Audited) -> None:
    lines = await audited.exported("?subject=u7")
    assert [line.get("event") for line in lines] == ["role_changed", "signed_in", None]
    assert lines[-1] == {"end": {"exported": 2, "complete": True}}
    [event] = audited.events.all
    assert (event.kind, event.actor) == (AuditKind.AUDIT_EXPORTED, "local-token")
    assert event.detail["subject"] == "u7"


async def test_an_export_ends_at_its_bound_and_says_so(audited: Audited) -> None:
    lines = await audited.exported()
    assert len(lines) == 101
    assert lines[-1]["end"] == {
        "exported": 100,
        "complete": False,
        "why": "no more than 100 at once: go on with `until`",
    }
    wrong = await audited.exported("?since=yesterday")
    assert wrong[-1]["end"]["complete"] is False  # type: ignore[index]


async def test_a_check_is_begun_once_and_its_state_shown(audited: Audited) -> None:
    assert "No check was made here yet." in await audited.shown()
    form = {"csrf": audited.csrf, "do": "check"}
    assert (await audited.house.post(AUDIT, form)).status == 303
    assert "A check runs since" in await audited.shown()
    assert (await audited.house.post(AUDIT, form)).status == 409
    kinds = [event.kind for event in audited.house.events.all]
    assert kinds.count(AuditKind.AUDIT_CHECKED) == 1
