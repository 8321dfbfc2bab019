"""Who is let into the console, and for how long."""

from __future__ import annotations

import re

import pytest

from gateway.audit.log import AuditKind
from gateway.edge.console.local_sign_in import LOCAL_TTL_S
from tests.edge.console.house import TOKEN, ConsoleHouse, console_house, policy_of


async def test_who_is_not_known_sees_a_form_and_no_data(house: ConsoleHouse) -> None:
    answer = await house.ask("/admin")
    assert answer.status == 401
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert 'id="sign-in"' in answer.text
    assert "house-1" not in answer.text
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
    assert "house-1" in (await house.ask("/admin")).text


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
        assert "house-1" not in answer.text
