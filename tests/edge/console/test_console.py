"""The console: who is let in, what a form must prove, and what is written down of an action."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.access.policies import Policy
from gateway.access.snapshot import Snapshot
from gateway.audit.log import AuditEvent, AuditKind
from gateway.config.compile import Sources, compile_snapshot
from gateway.edge.console.local_sign_in import LOCAL_TTL_S
from gateway.edge.console.operators import COOKIE
from gateway.edge.console.pages import (
    Acted,
    ConsoleAction,
    ConsolePage,
    ConsoleRequest,
    NavigationEntry,
    NotDone,
    NotFound,
    PageRegistry,
    View,
)
from gateway.model import Reason
from gateway.stores.protocols import StoreUnavailable
from tests.edge.console.house import TOKEN, ConsoleHouse, console_house

ROOM = Path(__file__).parents[3] / "gateway" / "edge" / "console"


class Bulbs:
    """Pages of a test: bulbs that are switched on and off."""

    def __init__(self) -> None:
        self.on: set[str] = set()
        self.away = False

    def pages(self) -> list[ConsolePage]:
        switch = ConsoleAction(self.switch)
        return [
            ConsolePage(
                "/admin/bulbs/{id}",
                "Bulb",
                self.show,
                section="/admin",
                actions={"switch": switch, "look": ConsoleAction(self.switch, fresh=False)},
                notices={"switched": "The bulb was switched."},
            )
        ]

    async def show(self, request: ConsoleRequest) -> View | NotFound:
        if self.away:
            raise StoreUnavailable("SQL", Reason.STORE_UNAVAILABLE)
        if request.parameters["id"] == "none":
            return NotFound("There is no such bulb.")
        sentence = f"bulb {request.parameters['id']} {sorted(self.on)}"
        return View("notice.html", {"sentence": sentence, "request_id": request.request_id})

    async def switch(self, request: ConsoleRequest) -> Acted | NotDone:
        if "colour" in request.form:
            return NotDone("A bulb has no colour.", fields={"colour": "unknown"})
        self.on.add(request.parameters["id"])
        event = AuditEvent(AuditKind.ACCOUNT_CHANGED, subject=request.parameters["id"])
        return Acted([event], notice="switched")


@pytest.fixture
def bulbs() -> Bulbs:
    return Bulbs()


@pytest.fixture
async def house(bulbs: Bulbs) -> AsyncIterator[ConsoleHouse]:
    async with console_house(*bulbs.pages()) as opened:
        yield opened


# --- who is let in ---


async def test_who_is_not_known_sees_a_form_and_no_data(house: ConsoleHouse) -> None:
    answer = await house.ask("/admin")
    assert answer.status == 401
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert 'id="sign-in"' in answer.text
    assert "abc" not in answer.text
    assert "nav" not in re.findall(r"<(\w+)", answer.text)


async def test_a_stranger_is_not_told_which_pages_there_are(house: ConsoleHouse) -> None:
    there, not_there = await house.ask("/admin/bulbs/1"), await house.ask("/admin/bogus")
    assert (there.status, not_there.status) == (401, 401)
    assert there.text.replace("bulbs/1", "bogus") == not_there.text


async def test_the_local_token_becomes_a_cookie_that_no_script_reads(house: ConsoleHouse) -> None:
    answer = await house.post("/admin/sign-in", {"token": f" {TOKEN}\n", "return_to": "/admin?x=1"})
    assert (answer.status, answer.headers["Location"]) == (303, "/admin?x=1")
    line = answer.headers["Set-Cookie"]
    assert line.startswith("__Host-console=")
    assert line.endswith(f"Max-Age={LOCAL_TTL_S}; Path=/; Secure; HttpOnly; SameSite=Lax")
    assert TOKEN not in line
    house.cookie = answer.cookie
    assert "abc" in (await house.ask("/admin")).text


async def test_a_wrong_token_is_refused_and_written_down(house: ConsoleHouse) -> None:
    answer = await house.post("/admin/sign-in", {"token": "guess"})
    assert answer.status == 401
    assert not answer.cookie
    assert "not the token" in answer.text
    assert "guess" not in answer.text
    assert [(e.kind, e.result) for e in house.events.all] == [
        (AuditKind.CONSOLE_OPENED, "invalid_credentials")
    ]


@pytest.mark.parametrize("return_to", ["https://evil.example/", "//evil.example", "/", "/adminx"])
async def test_a_sign_in_leads_to_a_page_of_the_console_alone(
    house: ConsoleHouse, return_to: str
) -> None:
    answer = await house.post("/admin/sign-in", {"token": TOKEN, "return_to": return_to})
    assert answer.headers["Location"] == "/admin"


async def test_the_cookie_of_the_local_token_counts_for_an_hour(house: ConsoleHouse) -> None:
    await house.sign_in()
    house.clock.at += LOCAL_TTL_S - 1
    assert (await house.ask("/admin")).status == 200
    house.clock.at += 1
    answer = await house.ask("/admin")
    assert answer.status == 401
    assert "Max-Age=0" in answer.headers["Set-Cookie"]


async def test_what_was_not_sealed_here_is_no_cookie(house: ConsoleHouse) -> None:
    await house.sign_in()
    for cookie in (
        TOKEN,
        "x" * 120,
        house.cookie[:-4] + "AAAA",
        f"{house.cookie}; __Host-console=x",
    ):
        house.cookie = cookie
        assert (await house.ask("/admin")).status == 401


@pytest.mark.parametrize(
    ("token", "status"),
    [
        (TOKEN, 200),
        ("token-of-admin", 200),
        ("token-of-user", 403),
        ("token-of-admin-for-a-resource", 401),
        ("wrong", 401),
        ("", 401),
    ],
)
async def test_a_token_counts_as_it_did(house: ConsoleHouse, token: str, status: int) -> None:
    assert (await house.ask("/admin", Authorization=f"Bearer {token}")).status == status


async def test_who_may_not_is_told_what_is_missing_and_counted(house: ConsoleHouse) -> None:
    answer = await house.ask("/admin", Authorization="Bearer token-of-user")
    assert "admin:read" in answer.text
    assert house.events.denials == [("no_rule", "console", "u")]


async def test_signing_out_takes_the_cookie_away(house: ConsoleHouse) -> None:
    csrf = await house.sign_in()
    assert (await house.post("/admin/sign-out", {"csrf": "x"})).status == 403
    answer = await house.post("/admin/sign-out", {"csrf": csrf})
    assert answer.status == 303
    assert answer.headers["Set-Cookie"].startswith("__Host-console=; Max-Age=0")


async def test_a_sign_out_ends_the_cookie_for_whoever_has_a_copy(house: ConsoleHouse) -> None:
    csrf = await house.sign_in()
    assert (await house.post("/admin/sign-out", {"csrf": csrf})).status == 303
    assert (await house.ask("/admin")).status == 401


async def test_a_store_that_is_away_does_not_keep_the_operator_out(house: ConsoleHouse) -> None:
    """The local token is for the hour in which nothing else works."""
    house.told.is_stale = True
    csrf = await house.sign_in()
    answer = await house.post("/admin/sign-out", {"csrf": csrf})
    assert (answer.status, "an hour at most" in answer.text) == (503, True)
    assert "Max-Age=0" in answer.headers["Set-Cookie"]


@pytest.mark.parametrize(
    ("rules", "read", "write"),
    [
        ("{id: r, allow: role-permissions}", 200, 403),
        ("{id: r, allow: ['admin:*']}", 200, 303),
        ("{id: r, allow: ['admin:*'], when: \"in_cidr(client.ip, '10.0.0.0/8')\"}", 403, 403),
        ("{id: r, allow: ['admin:*'], when: request.query.x == '1'}", 403, 403),
        ("{id: r, allow: ['admin:*'], when: user.claims.nothing.there}", 403, 403),
        ("{id: r, allow: ['admin:read']}", 200, 403),
    ],
)
async def test_a_policy_judges_each_call_in_the_place_of_the_role(
    house: ConsoleHouse, rules: str, read: int, write: int
) -> None:
    house.policy = policy_of(rules)
    house.somebody.auth_time = int(house.clock.at)
    bearer = {"Authorization": "Bearer token-of-user"}
    assert (await house.ask("/admin", **bearer)).status == read
    assert (await house.post("/admin/bulbs/1", {"do": "switch"}, **bearer)).status == write


async def test_who_may_only_read_gets_no_link_that_sets_the_password_of_another(
    house: ConsoleHouse,
) -> None:
    house.policy = policy_of("{id: r, allow: role-permissions}")
    bearer = {"Authorization": "Bearer token-of-user"}
    house.somebody.auth_time = int(house.clock.at)
    page = await house.ask("/admin", **bearer)
    assert (page.status, "1 mail waits" in page.text, "a@example.com" in page.text) == (
        200,
        True,
        False,
    )
    assert (await house.ask("/admin/api/outbox", **bearer)).status == 403
    assert (await house.ask("/admin/api/state", **bearer)).status == 200


async def test_a_mail_with_a_link_asks_for_a_fresh_sign_in(house: ConsoleHouse) -> None:
    """Else a stolen session leads itself to a password, and with that to every action."""
    bearer = {"Authorization": "Bearer token-of-admin"}
    house.somebody.auth_time = int(house.clock.at) - 301
    assert "a@example.com" not in (await house.ask("/admin", **bearer)).text
    assert (await house.ask("/admin/api/outbox", **bearer)).status == 401
    house.somebody.auth_time += 1
    assert "a@example.com" in (await house.ask("/admin", **bearer)).text
    assert (await house.ask("/admin/api/outbox", **bearer)).status == 200


async def test_a_policy_may_ask_for_a_stronger_sign_in(house: ConsoleHouse) -> None:
    house.policy = policy_of("{id: r, allow: ['admin:*'], step_up: {amr: [mfa]}}")
    answer = await house.ask("/admin", Authorization="Bearer token-of-admin")
    assert answer.status == 401
    assert "another way to sign in" in answer.text


async def test_the_local_token_is_asked_no_policy(house: ConsoleHouse) -> None:
    house.policy = policy_of("{id: nobody, deny: ['*']}")
    assert (await house.ask("/admin", Authorization=f"Bearer {TOKEN}")).status == 200


async def test_over_https_a_browser_is_told_to_stay_there(house: ConsoleHouse) -> None:
    assert "Strict-Transport-Security" not in (await house.ask("/admin")).headers


async def test_outside_loopback_it_is_served_over_https_alone() -> None:
    async with console_house(https_only=True) as house:
        answer = await house.ask("/admin", Authorization=f"Bearer {TOKEN}")
        assert answer.status == 400
        assert "https alone" in answer.text
        assert "abc" not in answer.text


def policy_of(rules: str) -> Policy:
    text = f"version: 1\npolicy: ops\nroles: {{viewer: [admin:read]}}\nrules:\n  - {rules}\n"
    routes = "version: 1\nconsole: {policy: ops}\nroutes: []\n"
    snapshot = compile_snapshot(Sources(("routes.yaml", routes), (("policies/ops.yaml", text),)))
    assert isinstance(snapshot, Snapshot), snapshot
    assert snapshot.console_policy is not None
    return snapshot.console_policy


# --- what a form must prove ---


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


# --- pages ---


async def test_what_is_not_there_is_a_page_that_says_so(house: ConsoleHouse) -> None:
    await house.sign_in()
    missing = await house.ask("/admin/bulbs/none")
    assert (missing.status, "There is no such bulb." in missing.text) == (404, True)
    assert (await house.ask("/admin/bogus")).status == 404
    assert (await house.ask("/admin/bulbs/1/2/3/4/5/6")).status == 404
    assert (await house.ask("/admin//bulbs")).status == 404


async def test_a_store_that_is_away_is_a_page_that_says_so(
    house: ConsoleHouse, bulbs: Bulbs
) -> None:
    await house.sign_in()
    bulbs.away = True
    answer = await house.ask("/admin/bulbs/1")
    assert (answer.status, "Sign out" in answer.text) == (503, True)
    assert answer.headers["Retry-After"]


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "POST"])
async def test_a_page_without_actions_is_only_read(house: ConsoleHouse, method: str) -> None:
    await house.sign_in()
    answer = await house.ask("/admin", method, Origin=house.base)
    assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD")


async def test_a_page_runs_nothing_but_the_files_of_the_console(house: ConsoleHouse) -> None:
    await house.sign_in()
    answer = await house.ask("/admin")
    policy = answer.headers["Content-Security-Policy"].split("; ")
    assert policy == [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    ]
    assert answer.headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert answer.headers["Cache-Control"] == "no-store"
    assert not re.search(
        r"<style| style=| on\w+=|hx-on|<script(?! src=\"/admin/assets/)", answer.text
    )


def test_no_template_holds_a_script_a_style_or_a_handler() -> None:
    for template in (ROOM / "templates").glob("*.html"):
        text = template.read_text("utf-8")
        assert not re.search(
            r"<style|\sstyle=|\son\w+=|hx-on|hx-vals='js|javascript:|\|\s*safe", text
        )
        assert re.findall(r"<script[^>]*>", text) in ([], ['<script src="{{ script }}" defer>'])


async def test_what_others_wrote_is_shown_as_text(house: ConsoleHouse) -> None:
    house.workers.problems = ["<script>alert(1)</script>"]
    await house.sign_in()
    text = (await house.ask("/admin")).text
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert" in text
    assert "&lt;b&gt;Hi&lt;/b&gt;" in text


def test_two_pages_of_one_address_are_an_error(bulbs: Bulbs) -> None:
    with pytest.raises(ValueError, match="one address"):
        PageRegistry([*bulbs.pages(), *bulbs.pages()], [])
    with pytest.raises(ValueError, match="leads nowhere"):
        PageRegistry(bulbs.pages(), [NavigationEntry("/admin/x", "X")])


def test_a_word_comes_before_a_name(bulbs: Bulbs) -> None:
    page = bulbs.pages()[0]
    exact = ConsolePage("/admin/bulbs/new", "New", bulbs.show)
    registry = PageRegistry([page, exact], [])
    assert registry.match(("admin", "bulbs", "new")) == (exact, {})
    assert registry.match(("admin", "bulbs", "7")) == (page, {"id": "7"})
