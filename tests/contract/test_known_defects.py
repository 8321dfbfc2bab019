"""What went wrong in other gateways, tried on a started one.  The list is docs/security/cves.md."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.contract.running import Running


@pytest.mark.parametrize(
    "field",
    [
        # CVE-2025-29927: a guard against loops that switched the middleware off.
        ("x-middleware-subrequest", "middleware:middleware:middleware:middleware:middleware"),
        # CVE-2026-34457: the user agent of a health checker.
        ("User-Agent", "kube-probe/1.31"),
        ("User-Agent", "GoogleHC/1.0"),
        # CVE-2023-27487, CVE-2026-40575, CVE-2026-33495: the path or scheme that was "really" asked.
        ("x-envoy-original-path", "/public/x"),
        ("X-Forwarded-Uri", "/public/x"),
        ("X-Original-URL", "/public/x"),
        ("X-Rewrite-URL", "/public/x"),
        ("X-Forwarded-Proto", "https"),
        ("X-HTTP-Method-Override", "OPTIONS"),
        # CVE-2022-24112: an address that is believed.
        ("X-Real-IP", "127.0.0.1"),
        ("X-Forwarded-For", "127.0.0.1"),
        # CVE-2026-33433: an identity that a client brings along.
        ("X-Auth-User-Id", "admin"),
        ("X_Auth_User_Id", "admin"),
    ],
)
def test_no_header_opens_a_route_that_needs_a_caller(
    gateway: Running, field: tuple[str, str]
) -> None:
    answer = gateway.call("GET", "/me", field)
    assert (answer.status, answer.reason) == (401, "no_credential")


@pytest.mark.parametrize(
    "query", ["x=/public/a", "/public/a", "redirect=%2Fpublic%2Fa", "a=b?/public/a", "/auth/login"]
)
def test_a_query_that_holds_a_public_path_opens_nothing(gateway: Running, query: str) -> None:
    """CVE-2025-54576, CVE-2026-9800."""
    assert gateway.call("GET", f"/me?{query}").status == 401


def test_an_encoded_number_sign_is_one_character_of_its_segment(gateway: Running) -> None:
    """CVE-2026-41059: `%23` widened a public pattern while the backend served what stands before."""
    gateway.echo.seen.clear()
    assert gateway.call("GET", "/me%23/public/x").status == 404
    assert gateway.call("GET", "/public/a%23/b").status == 200
    assert [one["target"] for one in gateway.echo.seen] == ["/public/a%23/b"]


@pytest.mark.parametrize("target", ["/store/secret%23x", "/store/secret%3Fx", "/store/SECRET%3F/x"])
def test_no_encoded_end_of_a_path_leads_to_the_path_before_it(
    gateway: Running, target: str
) -> None:
    """The same where a route takes everything else: an nginx that sends `$uri` makes `/a#x` of
    `/a%23x`, and whoever it sends that to serves `/a`."""
    gateway.echo.seen.clear()
    answer = gateway.call("GET", target)
    assert (answer.status, answer.reason) == (400, "ambiguous_path")
    assert gateway.call("GET", "/store/secrets%23x").status == 200
    assert [one["target"] for one in gateway.echo.seen] == ["/store/secrets%23x"]


@pytest.mark.parametrize("target", ["/public/x#", "/me#/public/x", "/public/x?a#b"])
def test_a_fragment_in_a_target_reaches_nobody(gateway: Running, target: str) -> None:
    """CVE-2021-32779, CVE-2023-47106."""
    gateway.echo.seen.clear()
    assert gateway.call("GET", target).status == 400
    assert gateway.echo.seen == []


@pytest.mark.parametrize(
    "host", ["OTHER.example.com", "other.example.com.", "other.example.com:443"]
)
def test_a_host_is_one_host_in_every_spelling(gateway: Running, host: str) -> None:
    """CVE-2022-23632, CVE-2026-27588: the public route of that host, not the guarded one of ours."""
    assert gateway.call("GET", "/me", host=host).status == 200


def test_no_answer_of_ours_holds_a_host_or_prefix_that_a_client_named(gateway: Running) -> None:
    """CVE-2024-52003, CVE-2020-5233: nothing to lead a browser astray with."""
    for target in ("/me", "/nowhere", "/auth/me", "/.well-known/oauth-authorization-server"):
        answer = gateway.call(
            "GET", target, ("X-Forwarded-Prefix", "//evil.example"), host="evil.example"
        )
        told = answer.body + "".join(f"{n}: {v}" for n, v in answer.fields).encode()
        assert b"evil.example" not in told
        assert answer.get("location") is None


@pytest.mark.parametrize("text", ["${PATH}", "{env.PATH}", "{{7*7}}", "%{HOME}", "#{7*7}", "{0}"])
def test_what_looks_like_a_template_arrives_as_it_was_sent(gateway: Running, text: str) -> None:
    """CVE-2026-30852: the text of a request was expanded."""
    gateway.echo.seen.clear()
    answer = gateway.call("POST", "/public/x", ("X-Text", text), body=text.encode())
    assert answer.status == 200
    seen = gateway.echo.seen[0]
    assert (seen["body"], ["X-Text", text] in seen["fields"]) == (text, True)


def test_a_token_in_a_body_or_a_cookie_is_none(gateway: Running, alice: dict[str, str]) -> None:
    """RFC 6750 sections 2.2 and 2.3 are not spoken, so nothing can be logged that way."""
    token = alice["access_token"]
    form = ("Content-Type", "application/x-www-form-urlencoded")
    assert gateway.call("POST", "/me", form, body=f"access_token={token}".encode()).status == 401
    assert gateway.call("GET", "/me", ("Cookie", f"access_token={token}")).status == 401


@pytest.mark.parametrize(
    "body",
    [
        b'[{"team": "b"}]',
        b'"team"',
        b'{"team": 9223372036854775808}',
        b'{"Team": "b"}',
        b'{"te_am": "b"}',
        b'{"team ": "b"}',
        b'{"$team": "b"}',
        b'{"team(1i)": "b"}',
        '{"t\xe9am": "b"}'.encode(),
        b'{"team": "a", "tenant": {"team": "b"}}',
        b'{"team.id": "b"}',
        b'{"[team]": "b"}',
        b'{"[\'team\']": "b"}',
        b'{"$set": {"team": "b"}}',
        b'{"$rename": {"title": "team"}}',
        b'{"__proto__": {"team": "b"}}',
        b'{"constructor": {"prototype": {"team": "b"}}}',
    ],
)
def test_no_shape_of_a_body_hides_a_field_from_a_rule_that_denies_by_it(
    gateway: Running, alice: dict[str, str], body: bytes
) -> None:
    """`has(resource.team) && …` is not true of what the policy does not find."""
    before = len(gateway.echo.seen)
    answer = gateway.call(
        "POST",
        "/tenant",
        ("Content-Type", "application/json"),
        body=body,
        token=alice["access_token"],
    )
    assert (answer.status, answer.reason) == (400, "body_malformed")
    assert len(gateway.echo.seen) == before


@pytest.mark.parametrize("path", ["/tries", "/tries/signed-in"])
def test_no_other_name_of_a_field_passes_a_limit_that_counts_by_it(
    gateway: Running, alice: dict[str, Any], path: str
) -> None:
    """Else whoever guesses a password has as many tries as they can think of addresses."""

    def tried(email: str, more: dict[str, Any], query: str = "") -> tuple[int, str | None]:
        body = json.dumps({"email": email + path, **more}).encode()
        fields = ("Content-Type", "application/json")
        token = alice["access_token"]
        answer = gateway.call("POST", path + query, fields, body=body, token=token)
        return answer.status, None if answer.status == 200 else answer.reason

    assert [tried("victim", {})[0] for _ in range(3)] == [200, 200, 429]
    before = len(gateway.echo.seen)
    for number in range(3):
        for more in ({"Email": "victim"}, {"$set": {"email": "victim"}}):
            assert tried(f"{number}", more) in ((400, "body_malformed"), (429, "rate_limited"))
        beside = tried(f"{number}", {}, "?email=victim")
        assert beside in ((400, "ambiguous_query"), (429, "rate_limited"))
    assert len(gateway.echo.seen) == before


def test_no_other_spelling_of_a_field_passes_a_limit_that_counts_by_it(
    gateway: Running, alice: dict[str, Any]
) -> None:
    """A database that takes letters in any case finds one account by all of them."""

    def tried(email: object) -> int:
        fields = ("Content-Type", "application/json")
        body = json.dumps({"email": email}).encode()
        return gateway.call("POST", "/tries", fields, body=body, token=alice["access_token"]).status

    assert [tried("Spelled@example.com") for _ in range(3)] == [200, 200, 429]
    for email in ("SPELLED@example.com", " spelled@example.com\t", "spe\u200blled@example.com"):
        assert tried(email) == 429
    for email in (
        "n1 <spelled@example.com>",
        '"2" <spelled@example.com>',
        "spelled(3)@example。com",
    ):
        assert tried(email) == 429
    assert [tried(account) for account in ("4711", "04711", 4711.0)] == [200, 200, 429]
    numbers = ("+14155552671", "+1-415-555-2671", "tel:+1(415)555.2671")
    assert [tried(number) for number in numbers] == [200, 200, 429]


def test_no_query_says_of_a_path_what_was_not_judged(
    gateway: Running, alice: dict[str, Any]
) -> None:
    """Spring takes the parameter of the query for the one of the path, where it binds an object."""
    mine = alice["user"]["user_id"]
    path, token = f"/v1/users/{mine}/orders/7", alice["access_token"]
    for query in ("", "?order_id=7", f"?user_id={mine}&page=2"):
        assert gateway.call("GET", path + query, token=token).status == 200
    before = len(gateway.echo.seen)
    for query in ("user_id=bob", "order_id=8", "userId=bob", "user_id[]=bob", "user_id.x=1",
                  "%09user_id=bob", "$user_id=bob", "us%C3%A9r_id=bob", "user/id!=bob", "user_id(1i)=bob"):  # fmt: skip
        answer = gateway.call("GET", f"{path}?{query}", token=token)
        assert (answer.status, answer.reason) == (400, "ambiguous_query"), query
    assert len(gateway.echo.seen) == before


def test_no_value_is_sent_on_that_a_backend_takes_for_one_that_is_denied(
    gateway: Running, alice: dict[str, Any]
) -> None:
    """Tornado, Laravel and Django's forms trim, and whoever reads a number takes `07` for 7."""
    token = alice["access_token"]
    for path, field in (("/staff/hrx", "x"), ("/staff/x?team=h%20r", "78"), ("/staff/70", "hr x")):
        assert gateway.call("GET", path, ("X-Team", field), token=token).status == 200
    before = len(gateway.echo.seen)
    for value in ("hr", "7"):
        for path, field in ((f"/staff/{value}", "x"), (f"/staff/x?team={value}", "x"), ("/staff/x", value)):  # fmt: skip
            answer = gateway.call("GET", path, ("X-Team", field), token=token)
            assert (answer.status, answer.reason) == (403, "no_rule"), (path, field)
    for value in ("hr%20", "%20hr", "hr%E2%80%83", "07", "7.0", "%2B7", "0x7"):
        answer = gateway.call("GET", f"/staff/{value}", token=token)
        assert (answer.status, answer.reason) == (400, "ambiguous_path"), value
        answer = gateway.call("GET", f"/staff/x?team={value}", token=token)
        assert (answer.status, answer.reason) == (400, "ambiguous_query"), value
    for value in ("07", "7.0", "+7", "0x7"):
        answer = gateway.call("GET", "/staff/x", ("X-Team", value), token=token)
        assert (answer.status, answer.reason) == (400, "ambiguous_header"), value
    assert len(gateway.echo.seen) == before
