"""A session handed over to another host, through real sockets, SQL and Valkey."""

from __future__ import annotations

from urllib.parse import parse_qs, quote, urlsplit

import pytest

from gateway.audit.log import AuditKind
from gateway.edge.endpoints.rate_limits import EVENTS, SESSION
from gateway.identity.sessions.hand_over import (
    ATTEMPTS_MAX,
    CODE_TTL_S,
    NAMES_MAX,
    REQUEST_TTL_S,
    HandOvers,
)
from gateway.model import Call, Credential, CredentialKind, Principal
from gateway.stores.redis import RedisStore
from tests.edge.auth_house import EMAIL, House, reason, request
from tests.edge.endpoints.sharing_browser import (
    APP1,
    APP2,
    GATE,
    NAVIGATION,
    SAME,
    Browser,
    leads_to,
    me,
)
from tests.nonces import Once


async def test_a_session_is_handed_over_and_leads_back_to_the_page(browser: Browser) -> None:
    accepted = await browser.get(await browser.code_for(APP1))
    assert (accepted.status, leads_to(accepted)) == (303, "/page?x=1")
    assert accepted.values("cache-control") == [b"no-store"]
    assert accepted.values("referrer-policy") == [b"no-referrer"]
    assert (await me(browser, APP1)).status == 200
    assert browser.jar[APP1]["__Host-session"] != browser.jar[GATE]["__Host-session"]


async def test_the_owner_sees_one_session_and_the_audit_log_the_hand_over(
    house: House, browser: Browser
) -> None:
    await browser.get(await browser.code_for(APP1))
    listed = await browser.get(f"https://{APP1}/auth/sessions", headers=[SAME])
    assert listed.body.count(b'"session_id"') == 1, listed.body
    kinds = [event.kind for event in house.recorded.events]
    assert kinds.count(AuditKind.SESSION_HANDED_OVER) == 1


async def test_a_sign_out_at_one_host_ends_the_session_at_all(browser: Browser) -> None:
    await browser.get(await browser.code_for(APP1))
    await browser.get(await browser.code_for(APP2))
    cookie = f"Cookie: __Host-session={browser.jar[APP1]['__Host-session']}"
    ended = await browser.house.raw(
        request("POST", "/auth/logout", b"", headers=[SAME, cookie], host=APP1)
    )
    assert ended.status == 204, ended.body
    for host in (GATE, APP1, APP2):
        assert (await me(browser, host)).status == 401


async def test_a_code_is_taken_once(browser: Browser) -> None:
    url = await browser.code_for(APP1)
    assert (await browser.get(url)).status == 303
    again = await browser.get(url)
    assert (again.status, reason(again)) == (400, "invalid_token")


async def test_a_code_is_worth_nothing_at_another_host(browser: Browser) -> None:
    url = await browser.code_for(APP1)
    browser.jar[APP2] = dict(browser.jar[APP1])  # as if a browser had sent it there too
    answer = await browser.get(url.replace(APP1, APP2))
    assert (answer.status, reason(answer)) == (400, "invalid_token")


async def test_a_code_is_worth_nothing_in_another_browser(house: House, browser: Browser) -> None:
    """Neither for a thief, nor to sign a victim in to the account of who made it."""
    url = await browser.code_for(APP1)
    assert (await Browser(house).get(url)).status == 400
    other = Browser(house)
    await other.get(f"https://{APP1}/auth/hand-over/start?return_to=/")
    # Led to ask for a session of its own, and it has none.
    asked = await other.get(url)
    assert leads_to(asked).startswith(f"https://{GATE}/auth/hand-over?request=")
    assert (await other.get(leads_to(asked))).status == 401
    assert "__Host-session" not in other.jar[APP1]


async def test_a_name_that_a_page_of_the_host_chose_is_worth_nothing(
    house: House, browser: Browser
) -> None:
    """A script of one application sets the cookie, has a code made, and sends both to a thief."""
    chosen = "n" * 43
    browser.jar[APP1] = {"__Host-hand-over": chosen}
    url = await browser.code_for(APP1)
    thief = Browser(house, {APP1: {"__Host-hand-over": chosen}})
    asked = await thief.get(url)
    assert leads_to(asked).startswith(f"https://{GATE}/auth/hand-over?request=")
    assert (await thief.get(leads_to(asked))).status == 401
    assert "__Host-session" not in thief.jar[APP1]
    assert leads_to(await browser.get(url)) == "/page?x=1"


async def test_a_session_has_so_many_cookies_and_no_more(
    browser: Browser, redis: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who brings none is given a new one, and each is a record in Redis for a week."""
    monkeypatch.setattr("gateway.identity.sessions.session_room.COOKIES_MAX", 3)
    given = []
    for number in range(6):
        browser.house.clock.move(1)
        browser.jar.pop(APP1, None)
        host = APP1 if number else APP2
        assert (await browser.get(await browser.code_for(host))).status == 303
        given.append((host, browser.jar[host]["__Host-session"]))
    statuses = [
        (await me(Browser(browser.house, {host: {"__Host-session": cookie}}), host)).status
        for host, cookie in given
    ]
    assert statuses == [401, 401, 401, 200, 200, 200]
    assert (await me(browser, GATE)).status == 200
    assert len(await redis.call("KEYS", f"{redis.prefix}session:*")) == 4
    # A sign-out finds them all.
    async with browser.house.database.read_transaction() as tx:
        assert len(await tx.all("SELECT hash FROM refresh_tokens")) == 4


async def test_two_cookies_that_name_the_browser_name_none(browser: Browser) -> None:
    url = await browser.code_for(APP1)
    name = f"__Host-hand-over={browser.jar[APP1]['__Host-hand-over']}"
    headers = [*NAVIGATION, f"Cookie: {name}; {name}"]
    parts = urlsplit(url)
    answer = await browser.house.raw(
        request("GET", f"{parts.path}?{parts.query}", b"", headers=headers, host=APP1)
    )
    assert (answer.status, reason(answer)) == (400, "invalid_token")


async def test_without_a_session_at_the_public_host_no_code_is_given(house: House) -> None:
    stranger = Browser(house)
    started = await stranger.get(f"https://{APP1}/auth/hand-over/start?return_to=/")
    answer = await stranger.get(leads_to(started))
    assert (answer.status, reason(answer)) == (401, "no_credential")


async def test_a_page_of_another_origin_cannot_fetch_a_code(browser: Browser) -> None:
    started = await browser.get(f"https://{APP1}/auth/hand-over/start?return_to=/")
    fetched = await browser.get(
        leads_to(started), headers=["Sec-Fetch-Site: same-site", "Sec-Fetch-Mode: no-cors"]
    )
    assert (fetched.status, reason(fetched)) == (401, "no_credential")


@pytest.mark.parametrize("host", [GATE, "evil.example", "app1.example.evil.example"])
async def test_a_host_that_shares_nothing_starts_and_takes_nothing(
    browser: Browser, host: str
) -> None:
    assert (await browser.get(f"https://{host}/auth/hand-over/start")).status == 404
    assert (await browser.get(f"https://{host}/auth/hand-over/accept?code=x")).status == 404


async def test_only_the_public_host_gives_codes(browser: Browser) -> None:
    await browser.get(await browser.code_for(APP1))
    started = await browser.get(f"https://{APP2}/auth/hand-over/start?return_to=/")
    answer = await browser.get(leads_to(started).replace(GATE, APP1))
    assert (answer.status, reason(answer)) == (404, "route_unknown")


async def test_a_request_for_a_host_that_shares_no_longer_is_refused(
    house: House, browser: Browser
) -> None:
    asked = house.deps.hand_overs.ask("https://gone.example", "/", "b" * 43)
    answer = await browser.get(f"https://{GATE}/auth/hand-over?request={asked}")
    assert (answer.status, reason(answer)) == (400, "invalid_token")


@pytest.mark.parametrize("what", ["", "x", "AAAA", "code", "foreign"])
async def test_what_was_not_sealed_as_a_request_here_is_none(browser: Browser, what: str) -> None:
    url = await browser.code_for(APP1)
    foreign = HandOvers(b"o" * 32, Once(), browser.house.clock)
    sent = {
        "code": parse_qs(urlsplit(url).query)["code"][0],
        "foreign": foreign.ask(f"https://{APP1}", "/", "b" * 43),
    }.get(what, what)
    answer = await browser.get(f"https://{GATE}/auth/hand-over?request={sent}")
    assert (answer.status, reason(answer)) == (400, "invalid_token")


@pytest.mark.parametrize("what", ["", "x", "AAAA", "request"])
async def test_what_was_not_sealed_as_a_code_here_is_none(browser: Browser, what: str) -> None:
    started = await browser.get(f"https://{APP1}/auth/hand-over/start?return_to=/")
    sent = {"request": parse_qs(urlsplit(leads_to(started)).query)["request"][0]}.get(what, what)
    answer = await browser.get(f"https://{APP1}/auth/hand-over/accept?code={sent}")
    assert (answer.status, reason(answer)) == (400, "invalid_token")


@pytest.mark.parametrize("where", ["/auth/hand-over", "/auth/hand-over/accept"])
async def test_any_number_of_parameters_is_a_refusal_and_no_defect(
    browser: Browser, where: str
) -> None:
    host = GATE if where == "/auth/hand-over" else APP1
    for query in ("&".join("a" * 50), "request=1&request=2", "code=%ff&request=%ff", "request=%"):
        answer = await browser.get(f"https://{host}{where}?{query}")
        assert (answer.status, reason(answer)) == (400, "invalid_token")


async def test_requests_and_codes_end(house: House, browser: Browser) -> None:
    started = await browser.get(f"https://{APP1}/auth/hand-over/start?return_to=/")
    house.clock.move(REQUEST_TTL_S)
    late = await browser.get(leads_to(started))
    assert (late.status, reason(late)) == (400, "invalid_token")
    url = await browser.code_for(APP1)
    house.clock.move(CODE_TTL_S)
    assert (await browser.get(url)).status == 400


async def test_a_session_that_ended_in_between_is_not_handed_over(
    house: House, browser: Browser
) -> None:
    url = await browser.code_for(APP1)
    account = await house.deps.accounts.by_email(EMAIL)
    assert account is not None
    await house.deps.accounts.end_all(account.id, "test")
    answer = await browser.get(url)
    assert (answer.status, reason(answer)) == (401, "session_unknown")
    assert "__Host-session" not in browser.jar[APP1]


@pytest.mark.parametrize(
    "return_to",
    [
        "//evil.example/",
        "/\\evil.example",
        "https://evil.example/",
        "",
        "/a\tb",
        "/ä",
        "/" + "a" * 2_048,
    ],
)
async def test_what_is_no_path_of_the_same_origin_leads_to_the_root(
    browser: Browser, return_to: str
) -> None:
    accepted = await browser.get(await browser.code_for(APP1, return_to))
    assert leads_to(accepted) == "/"


async def test_the_tabs_of_a_browser_share_the_session(browser: Browser) -> None:
    urls = [await browser.code_for(APP1, f"/{tab}") for tab in range(5)]
    accepted = [await browser.get(url) for url in urls]
    assert [leads_to(answer) for answer in accepted] == [f"/{tab}" for tab in range(5)]
    given = [line for a in accepted for line in a.values("set-cookie") if b"__Host-session" in line]
    assert len(given) == 1  # the others found it there


async def test_of_tabs_that_ask_at_once_each_comes_to_its_page(browser: Browser) -> None:
    """The cookie of the second takes the place of the first's."""
    urls = []
    for tab in range(2):
        browser.jar.pop(APP1, None)
        urls.append(await browser.code_for(APP1, f"/{tab}"))
    accepted = [await browser.get(url) for url in reversed(urls)]
    assert [leads_to(answer) for answer in accepted] == ["/1", "/0"]


@pytest.mark.parametrize("tabs", [20])
async def test_tabs_beyond_the_names_that_a_cookie_holds_ask_again(
    browser: Browser, tabs: int
) -> None:
    """All begin before any ends: only the last names are left when the codes come."""
    urls = [await browser.code_for(APP1, f"/{tab}") for tab in range(tabs)]
    assert tabs > NAMES_MAX
    ends = []
    for url in urls:
        answer = await browser.get(url)
        for _ in range(2 * ATTEMPTS_MAX):
            if not leads_to(answer).startswith("https://"):
                break
            answer = await browser.get(leads_to(answer))
        ends.append(leads_to(answer))
    assert ends == [f"/{tab}" for tab in range(tabs)]


async def test_a_browser_that_keeps_no_name_is_not_led_in_circles(browser: Browser) -> None:
    url, hops = await browser.code_for(APP1), 0
    while True:
        browser.jar[APP1] = {"__Host-hand-over": "n" * 43}
        answer = await browser.get(url)
        hops += 1
        if answer.status != 303 or hops > 20:
            break
        url = leads_to(await browser.get(leads_to(answer)))
    assert (answer.status, reason(answer), hops) == (400, "invalid_token", ATTEMPTS_MAX)


async def test_a_page_that_has_browsers_signed_in_is_led_to_through_the_page(
    house: House,
) -> None:
    stranger, target = Browser(house), "/with-page?x=1"
    asked = quote(target, safe="")
    started = await stranger.get(f"https://{APP1}/auth/hand-over/start?return_to={asked}")
    answer = await stranger.get(leads_to(started))
    page, _, sealed = leads_to(answer).partition("?return_to=")
    assert (answer.status, page) == (303, "/auth/ui/sign-in")
    await stranger.sign_in()
    back = house.deps.return_targets.open(sealed, GATE)
    assert back is not None
    url = back.location
    for _ in range(3):
        url = leads_to(await stranger.get(url))
    assert url == target
    assert (await me(stranger, APP1)).status == 200


@pytest.mark.parametrize(
    "stronger", ["auth_time = auth_time + 60", "amr = 'pwd otp mfa'"], ids=["later", "stronger"]
)
async def test_a_cookie_that_a_host_has_learns_of_a_step_up(
    house: House, browser: Browser, stronger: str
) -> None:
    """At the public host, whose own cookie knows of it at once."""
    await browser.get(await browser.code_for(APP1))
    before = browser.jar[APP1]["__Host-session"]
    house.clock.move(60)
    async with house.database.transaction() as tx:
        await tx.run(f"UPDATE families SET {stronger}")
    fields = [SAME, f"Cookie: __Host-session={browser.jar[GATE]['__Host-session']}"]
    refreshed = await house.raw(request("POST", "/auth/refresh", b"", headers=fields, host=GATE))
    assert refreshed.status == 200
    public = await principal_at(house, browser, GATE)
    answer = await browser.get(await browser.code_for(APP1))
    assert leads_to(answer) == "/page?x=1"
    assert browser.jar[APP1]["__Host-session"] == before
    there = await principal_at(house, browser, APP1)
    assert (there.auth_time, there.amr) == (public.auth_time, public.amr)


async def principal_at(house: House, browser: Browser, host: str) -> Principal:
    credential = Credential(CredentialKind.COOKIE, browser.jar[host]["__Host-session"])
    call = Call("GET", host, "/", ("",), "", headers=(), client_ip="192.0.2.1", scheme="https")
    principal = await house.deps.cookies.authenticate(credential, call)
    assert isinstance(principal, Principal)
    return principal


async def test_a_browser_has_a_bounded_number_of_names(browser: Browser) -> None:
    first = await browser.code_for(APP1)
    last = [await browser.code_for(APP1) for _ in range(NAMES_MAX)][-1]
    assert len(browser.jar[APP1]["__Host-hand-over"].split(".")) == NAMES_MAX
    assert leads_to(await browser.get(first)).startswith(f"https://{GATE}/auth/hand-over")
    assert leads_to(await browser.get(last)) == "/page?x=1"
    browser.jar[APP1]["__Host-hand-over"] += ".x"  # none of ours: taken for no name at all
    assert (await browser.get(await browser.code_for(APP1))).status == 303


async def test_hand_overs_of_a_session_have_the_limit_of_its_renewals(browser: Browser) -> None:
    await browser.get(await browser.code_for(APP1))
    for _ in range(SESSION[0].burst):
        browser.jar[APP1].pop("__Host-session", None)
        answer = await browser.get(await browser.code_for(APP1))
        if answer.status == 429:
            break
    assert (answer.status, reason(answer)) == (429, "rate_limited")


async def test_hand_overs_of_an_account_have_a_limit_whatever_its_sessions(
    house: House, browser: Browser
) -> None:
    account = await house.deps.accounts.by_email(EMAIL)
    assert account is not None
    for _ in range(EVENTS[0].burst):
        assert await house.deps.limits.account_event_wait_s(account.id) == 0.0
    started = await browser.get(f"https://{APP1}/auth/hand-over/start?return_to=/")
    refused = await browser.get(leads_to(started))
    assert (refused.status, reason(refused)) == (429, "rate_limited")


async def test_the_session_that_the_browser_had_at_the_host_ends(
    house: House, browser: Browser
) -> None:
    other = Browser(house)
    await other.sign_in()
    browser.jar[APP1] = {"__Host-session": other.jar[GATE]["__Host-session"]}
    await browser.get(await browser.code_for(APP1))
    assert (await me(browser, APP1)).status == 200
    assert (await me(other, GATE)).status == 401
