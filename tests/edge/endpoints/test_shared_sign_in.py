"""What a cookie of one host is worth at the others, where several share a sign-in."""

from __future__ import annotations

import pytest

from tests.edge.auth_house import House, reason, request
from tests.edge.endpoints.sharing_browser import (
    APART,
    APP1,
    APP2,
    GATE,
    SAME,
    Browser,
    leads_to,
    me,
)
from tests.edge.rig import Answer


async def test_a_cookie_that_was_handed_over_counts_at_its_host_alone(browser: Browser) -> None:
    """Who gets hold of it, as an application's own host may, is nobody at the others."""
    await browser.get(await browser.code_for(APP1))
    stolen = browser.jar[APP1]["__Host-session"]
    thief = Browser(browser.house, {host: {"__Host-session": stolen} for host in (GATE, APP2)})
    for host in (GATE, APP2):
        answer = await me(thief, host)
        assert (answer.status, reason(answer)) == (401, "session_unknown")
        thief.jar[host] = {"__Host-session": stolen}
        for endpoint in ("refresh", "logout"):
            sent = request(
                "POST",
                f"/auth/{endpoint}",
                b"",
                headers=[SAME, f"Cookie: __Host-session={stolen}"],
                host=host,
            )
            refused = await browser.house.raw(sent)
            assert (refused.status, reason(refused)) == (401, "session_unknown")
    started = await thief.get(f"https://{APP2}/auth/hand-over/start?return_to=/")
    assert (await thief.get(leads_to(started))).status == 401
    assert (await me(browser, APP1)).status == 200


async def test_a_page_of_one_application_makes_no_key_that_counts_at_the_others(
    house: House, browser: Browser
) -> None:
    """A key counts at every host, and for up to a year."""

    async def make(host: str, cookie: str) -> Answer:
        fields = [SAME, f"Cookie: __Host-session={cookie}"]
        return await house.raw(
            request("POST", "/auth/keys", b'{"name": "mine"}', headers=fields, host=host)
        )

    await browser.get(await browser.code_for(APP1))
    own, handed_over = (browser.jar[host]["__Host-session"] for host in (GATE, APP1))
    # Handed over, or of a sign-in at that very host.
    for cookie in (handed_over, own):
        refused = await make(APP1, cookie)
        assert (refused.status, reason(refused)) == (403, "cross_origin")
    made = await make(GATE, own)
    assert made.status == 201, made.body
    listed = await browser.get(f"https://{APP1}/auth/keys", headers=[SAME])
    assert listed.body.count(b'"key_id"') == 1, listed.body


async def test_a_page_of_one_application_sets_no_attribute_that_the_others_read(
    house: House, browser: Browser
) -> None:
    async def put(host: str, cookie: str) -> Answer:
        fields = [SAME, f"Cookie: __Host-session={cookie}"]
        raw = request(
            "PATCH", "/auth/me/attributes", b'{"nickname": "Al"}', headers=fields, host=host
        )
        return await house.raw(raw)

    await browser.get(await browser.code_for(APP1))
    own, handed_over = (browser.jar[host]["__Host-session"] for host in (GATE, APP1))
    for cookie in (handed_over, own):
        refused = await put(APP1, cookie)
        assert (refused.status, reason(refused)) == (403, "cross_origin")
    assert (await put(GATE, own)).status == 204


async def test_a_cookie_that_was_handed_over_makes_no_key_where_nothing_is_shared_any_more(
    house: House, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    await browser.get(await browser.code_for(APP1))
    monkeypatch.setattr("tests.edge.auth_house.SHARED_HOSTS", frozenset())
    cookie = f"Cookie: __Host-session={browser.jar[APP1]['__Host-session']}"
    refused = await house.raw(
        request("POST", "/auth/keys", b'{"name": "mine"}', headers=[SAME, cookie], host=APP1)
    )
    assert (refused.status, reason(refused)) == (403, "cross_origin")


async def test_a_sign_in_at_another_host_counts_at_that_host_alone(house: House) -> None:
    """Also for who receives what browsers send to that host."""
    browser = Browser(house)
    await browser.sign_in(APP1)
    assert (await me(browser, APP1)).status == 200
    stolen = browser.jar[APP1]["__Host-session"]
    for host in (GATE, APP2):
        answer = await me(Browser(house, {host: {"__Host-session": stolen}}), host)
        assert (answer.status, reason(answer)) == (401, "session_unknown")


async def test_a_host_that_shares_nothing_gives_nothing_that_counts_at_those_that_do(
    house: House,
) -> None:
    """One that routes name by a pattern (`*.example.com`), or that is of another domain."""
    browser = Browser(house)
    await browser.sign_in(APART)
    assert (await me(browser, APART)).status == 200
    cookie = browser.jar[APART]["__Host-session"]
    for host in (GATE, APP1):
        answer = await me(Browser(house, {host: {"__Host-session": cookie}}), host)
        assert (answer.status, reason(answer)) == (401, "session_unknown")
    fields = [SAME, f"Cookie: __Host-session={cookie}"]
    refused = await house.raw(
        request("POST", "/auth/keys", b'{"name": "mine"}', headers=fields, host=APART)
    )
    assert (refused.status, reason(refused)) == (403, "cross_origin")


async def test_where_nothing_is_shared_a_cookie_makes_keys_at_any_host(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.edge.auth_house.SHARED_HOSTS", frozenset())
    browser = Browser(house)
    await browser.sign_in(APART)
    fields = [SAME, f"Cookie: __Host-session={browser.jar[APART]['__Host-session']}"]
    made = await house.raw(
        request("POST", "/auth/keys", b'{"name": "mine"}', headers=fields, host=APART)
    )
    assert made.status == 201, made.body
