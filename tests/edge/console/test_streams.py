"""Streams of the console: whoever may not see them any more is sent nothing more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator

import aiohttp
import pytest

from gateway.edge.console.operators import COOKIE
from gateway.edge.console.pages import ConsolePage, ConsoleRequest, View
from tests.edge.console.house import ConsoleHouse, console_house

STREAM = "/admin/ticks"


class Ticks:
    """A stream of whatever a test says."""

    def __init__(self) -> None:
        self.said: asyncio.Queue[str] = asyncio.Queue()
        self.begun = 0

    def page(self) -> ConsolePage:
        return ConsolePage(STREAM, "Ticks", self.show, section="/admin", stream=self.stream)

    async def show(self, request: ConsoleRequest) -> View:
        raise AssertionError

    async def stream(self, request: ConsoleRequest) -> AsyncGenerator[str, None]:
        self.begun += 1
        while True:
            said = await self.said.get()
            if said == "defect":
                raise ZeroDivisionError
            yield said


@pytest.fixture
def ticks() -> Ticks:
    return Ticks()


@pytest.fixture
async def house(ticks: Ticks) -> AsyncIterator[ConsoleHouse]:
    async with console_house(ticks.page()) as opened:
        yield opened


async def test_who_has_signed_out_is_sent_nothing_more(house: ConsoleHouse, ticks: Ticks) -> None:
    csrf = await house.sign_in()
    cookie = {"Cookie": f"{COOKIE}={house.cookie}"}
    async with asyncio.timeout(20), house.session.get(house.base + STREAM, headers=cookie) as seen:
        await ticks.said.put("first\n")
        assert await seen.content.readline() == b"first\n"
        assert (await house.post("/admin/sign-out", {"csrf": csrf})).status == 303
        await ticks.said.put("second\n")
        assert await seen.content.read() == b""


async def test_no_link_of_another_site_begins_a_stream(house: ConsoleHouse, ticks: Ticks) -> None:
    """It takes one of few places, and to read the audit log out is written down."""
    await house.sign_in()
    led = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate"}
    assert (await house.ask(STREAM, **led, Sec_Fetch_Dest="document")).status == 403
    assert ticks.begun == 0


async def test_a_stream_that_breaks_ends_in_an_abort(house: ConsoleHouse, ticks: Ticks) -> None:
    await house.sign_in()
    cookie = {"Cookie": f"{COOKIE}={house.cookie}"}
    async with asyncio.timeout(20), house.session.get(house.base + STREAM, headers=cookie) as seen:
        await ticks.said.put("first\n")
        await ticks.said.put("defect")
        with pytest.raises(aiohttp.ClientPayloadError):
            await seen.content.read()
