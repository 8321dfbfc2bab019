"""What a form of the console must prove before anything happens, and what is written down of it."""

from __future__ import annotations

import asyncio

import pytest

from gateway.audit.log import AuditKind
from gateway.edge.console.operators import COOKIE
from tests.edge.console.bulbs import Bulbs
from tests.edge.console.house import ConsoleHouse


async def test_an_action_is_done_once_and_leads_back_to_the_page(
    house: ConsoleHouse, bulbs: Bulbs
) -> None:
    csrf = await house.sign_in()
    answer = await house.post("/admin/bulbs/7", {"csrf": csrf, "do": "switch"})
    assert (answer.status, answer.headers["Location"]) == (303, "/admin/bulbs/7?done=switched")
    assert bulbs.on == {"7"}
    assert "The bulb was switched." in (await house.ask(answer.headers["Location"])).text


async def test_an_action_is_written_down_with_who_did_it(house: ConsoleHouse) -> None:
    csrf = await house.sign_in()
    await house.post("/admin/bulbs/7", {"csrf": csrf, "do": "switch"})
    event = house.events.all[-1]
    assert (event.kind, event.subject) == (AuditKind.ACCOUNT_CHANGED, "7")
    assert (event.actor, event.address) == ("local-token", "127.0.0.1")
    assert event.detail == {"by": "console"}
    assert event.request_id


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec_Fetch_Site": "cross-site"}, 403),
        ({"Sec_Fetch_Site": "same-site"}, 403),
        ({"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "document"}, 403),
    ],
)  # fmt: skip
async def test_a_page_of_another_origin_makes_nothing_happen(
    house: ConsoleHouse, bulbs: Bulbs, headers: dict[str, str], status: int
) -> None:
    csrf = await house.sign_in()
    answer = await house.post("/admin/bulbs/7", {"csrf": csrf, "do": "switch"}, **headers)
    assert answer.status == status
    assert bulbs.on == set()


@pytest.mark.parametrize("csrf", ["", "x", "AAAA"])
async def test_a_form_without_the_proof_of_the_page_makes_nothing_happen(
    house: ConsoleHouse, bulbs: Bulbs, csrf: str
) -> None:
    await house.sign_in()
    answer = await house.post("/admin/bulbs/7", {"csrf": csrf, "do": "switch"})
    assert answer.status == 403
    assert bulbs.on == set()


async def test_the_proof_of_another_cookie_is_none(house: ConsoleHouse, bulbs: Bulbs) -> None:
    csrf = await house.sign_in()
    await house.sign_in()
    assert (await house.post("/admin/bulbs/7", {"csrf": csrf, "do": "switch"})).status == 403
    assert bulbs.on == set()


async def test_a_link_of_another_site_may_lead_to_a_page(house: ConsoleHouse) -> None:
    await house.sign_in()
    led = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate"}
    assert (await house.ask("/admin", **led, Sec_Fetch_Dest="document")).status == 200
    assert (await house.ask("/admin", **led, Sec_Fetch_Dest="iframe")).status == 403
    assert (await house.ask("/admin", Sec_Fetch_Site="cross-site")).status == 403


async def test_an_action_asks_for_a_fresh_sign_in(house: ConsoleHouse, bulbs: Bulbs) -> None:
    bearer = {"Authorization": "Bearer token-of-admin"}
    house.somebody.auth_time = int(house.clock.at) - 301
    assert (await house.post("/admin/bulbs/7", {"do": "switch"}, **bearer)).status == 401
    assert bulbs.on == set()
    assert (await house.post("/admin/bulbs/7", {"do": "look"}, **bearer)).status == 303
    house.somebody.auth_time += 1
    assert (await house.post("/admin/bulbs/8", {"do": "switch"}, **bearer)).status == 303
    assert bulbs.on == {"7", "8"}


async def test_an_action_that_was_begun_before_a_sign_out_does_nothing_after_it(
    house: ConsoleHouse, bulbs: Bulbs
) -> None:
    """A form may come for ten seconds: whoever has a copy of the cookie begins one in time."""
    csrf = await house.sign_in()
    body = f"csrf={csrf}&do=switch".encode()
    host = house.base.removeprefix("http://")
    head = (
        f"POST /admin/bulbs/7 HTTP/1.1\r\nHost: {host}\r\nCookie: {COOKIE}={house.cookie}\r\n"
        "Content-Type: application/x-www-form-urlencoded\r\nConnection: close\r\n"
        f"Origin: {house.base}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    async with asyncio.timeout(20):
        reader, writer = await asyncio.open_connection(*host.split(":"))
        writer.write(head.encode() + body[:-6])
        assert (await house.post("/admin/sign-out", {"csrf": csrf})).status == 303
        writer.write(body[-6:])
        answer = await reader.read()
    writer.close()
    assert answer.startswith(b"HTTP/1.1 401 ")
    assert bulbs.on == set()


@pytest.mark.parametrize("do", ["", "explode", "__class__"])
async def test_an_action_that_there_is_not_is_refused(house: ConsoleHouse, do: str) -> None:
    csrf = await house.sign_in()
    assert (await house.post("/admin/bulbs/7", {"csrf": csrf, "do": do})).status == 422


async def test_what_was_not_done_is_told_above_the_page(house: ConsoleHouse) -> None:
    csrf = await house.sign_in()
    answer = await house.post("/admin/bulbs/7", {"csrf": csrf, "do": "switch", "colour": "red"})
    assert answer.status == 422
    assert "A bulb has no colour." in answer.text
    assert [e.kind for e in house.events.all] == [AuditKind.CONSOLE_OPENED]


async def test_a_form_that_is_too_long_is_refused(house: ConsoleHouse) -> None:
    csrf = await house.sign_in()
    form = {"csrf": csrf, "do": "switch", "colour": "x" * 70_000}
    assert (await house.post("/admin/bulbs/7", form)).status == 413


async def test_a_body_that_is_no_form_is_refused(house: ConsoleHouse) -> None:
    await house.sign_in()
    answer = await house.ask(
        "/admin/bulbs/7", "POST", form="{}", Content_Type="application/json", Origin=house.base
    )
    assert answer.status == 400
