"""What the upstream and the client see of a proxied call."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.access.test_file_paths import CLIMBS, backends, served
from tests.access.test_paths import AMBIGUOUS
from tests.contract.running import Running


def seen_fields(answer: Any) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in answer.json["fields"]:
        found.setdefault(name.lower(), []).append(value)
    return found


def test_the_backend_is_told_who_calls(gateway: Running, alice: dict[str, Any]) -> None:
    answer = gateway.call("GET", "/me", token=str(alice["access_token"]))
    assert answer.status == 200
    seen = seen_fields(answer)
    assert seen["x-auth-user-id"] == [alice["user"]["user_id"]]
    assert seen["x-auth-email"] == ["Alice@Example.com"]
    assert len(seen["x-auth-session-id"]) == 1
    assert "authorization" not in seen
    assert len(seen["x-request-id"]) == 1
    assert len(seen["traceparent"]) == 1
    assert seen["x-forwarded-for"] == ["127.0.0.1"]
    assert seen["x-forwarded-proto"] == ["http"]
    assert seen["host"] == [f"127.0.0.1:{gateway.port}"]
    assert "via" in seen
    assert "forwarded" in seen


@pytest.mark.parametrize("path", ["/me", "/public/x", "/maybe"])
@pytest.mark.parametrize(
    "spelling",
    [
        "X-Auth-User-Id",
        "x-auth-user-id",
        "X_Auth_User_Id",
        "X-AUTH_user-ID",
        "x-auth-anything",
        "X_AUTH_ROLES",
    ],
)
def test_no_client_forges_an_identity_header(
    gateway: Running, alice: dict[str, Any], path: str, spelling: str
) -> None:
    token = str(alice["access_token"]) if path == "/me" else None
    answer = gateway.call(
        "GET",
        path,
        (spelling, "root"),
        (spelling, "root"),
        ("Connection", "X-Auth-User-Id"),
        token=token,
    )
    assert answer.status == 200
    forged = [
        (n, v)
        for n, v in answer.json["fields"]
        if n.lower().replace("_", "-").startswith("x-auth-") and "root" in v
    ]
    assert not forged
    if path == "/me":
        assert seen_fields(answer)["x-auth-user-id"] == [alice["user"]["user_id"]]


def test_own_credentials_stay_here_unless_the_route_forwards_them(
    gateway: Running, alice: dict[str, Any]
) -> None:
    token = str(alice["access_token"])
    cookie = ("Cookie", "__Host-session=abc; theirs=1; __Host-device=def")
    answer = gateway.call("GET", "/me", cookie, token=token)
    seen = seen_fields(answer)
    assert "authorization" not in seen
    assert seen["cookie"] == ["theirs=1"]
    forwarded = seen_fields(gateway.call("GET", "/forward", token=token))
    assert forwarded["authorization"] == [f"Bearer {token}"]


def test_an_upstream_may_not_overwrite_our_cookies(gateway: Running) -> None:
    answer = gateway.call("GET", "/public/x")
    assert answer.all("set-cookie") == ["theirs=1"]


def test_forwarded_headers_of_a_stranger_are_dropped(gateway: Running) -> None:
    answer = gateway.call(
        "GET",
        "/public/x",
        ("X-Forwarded-For", "6.6.6.6"),
        ("X-Forwarded-Host", "evil.example"),
        ("X-Forwarded-Proto", "https"),
        ("Forwarded", "for=6.6.6.6"),
        ("X_Forwarded_For", "6.6.6.6"),
        ("X-Real-Ip", "6.6.6.6"),
    )
    assert "6.6.6.6" not in [value for _, value in answer.json["fields"]]
    assert seen_fields(answer)["x-forwarded-for"] == ["127.0.0.1"]
    assert "evil.example" not in answer.body.decode()


@pytest.mark.parametrize(
    "fields",
    [
        [("X-Tenant", "a"), ("Connection", "x-tenant")],
        [("X-Tenant", "a"), ("Connection", "close, X-TENANT")],
        [("X-Tenant", "a"), ("X.Tenant", "b")],
        [("X-Tenant", "a"), ("X_Tenant", "b")],
        [("X-Tenant", "a"), ("x-tenant", "b")],
    ],
)
def test_a_header_that_was_judged_reaches_the_upstream_alone(
    gateway: Running, alice: dict[str, Any], fields: list[tuple[str, str]]
) -> None:
    token = str(alice["access_token"])
    assert gateway.call("GET", "/tenant", fields[0], token=token).status == 200
    before = len(gateway.echo.seen)
    answer = gateway.call("GET", "/tenant", *fields, token=token)
    assert (answer.status, answer.reason) == (400, "ambiguous_header")
    assert len(gateway.echo.seen) == before


def test_a_condition_that_could_not_be_evaluated_is_told_and_counted_apart(
    gateway: Running, alice: dict[str, Any]
) -> None:
    answer = gateway.call("GET", "/tenant", token=str(alice["access_token"]))
    assert (answer.status, answer.reason) == (403, "condition_failed")
    answer = gateway.call("GET", "/tenant", ("X-Tenant", "b"), token=str(alice["access_token"]))
    assert (answer.status, answer.reason) == (403, "no_rule")
    counted = gateway.admin("/metrics").body.decode()
    name = 'authgate_requests_total{outcome="condition_failed",route="tenant",status="403"}'
    assert f"\n{name} " in counted


@pytest.mark.parametrize(
    "media_type",
    ["application/json;", "application/json; charset=latin-1", "text/plain", "text/json", None],
)
def test_a_body_that_a_policy_reads_is_json_or_refused(
    gateway: Running, alice: dict[str, Any], media_type: str | None
) -> None:
    token = str(alice["access_token"])

    def post(kind: str | None, team: str) -> tuple[int, str]:
        fields = [("Content-Type", kind)] if kind is not None else []
        body = json.dumps({"team": team}).encode()
        answer = gateway.call("POST", "/tenant", *fields, body=body, token=token)
        return answer.status, "" if answer.status == 200 else str(answer.reason)

    assert post("application/json", "a") == (200, "")
    assert post("application/json; charset=UTF-8", "b") == (403, "other_team")
    before = len(gateway.echo.seen)
    assert post(media_type, "b") == (415, "media_type_unsupported")
    assert len(gateway.echo.seen) == before


def test_a_stranger_spends_nothing_of_what_the_people_of_a_tenant_may(
    gateway: Running, alice: dict[str, Any]
) -> None:
    eve, token = gateway.sign_in("eve@example.com"), str(alice["access_token"])
    target = f"/tenants/{alice['user']['user_id']}/limited"
    for _ in range(5):
        answer = gateway.call("GET", target, token=str(eve["access_token"]))
        assert (answer.status, answer.reason) == (403, "no_rule")
    assert [gateway.call("GET", target, token=token).status for _ in range(4)] == [200] * 3 + [429]
    # Nor does one tenant of another's.
    other = f"/tenants/{eve['user']['user_id']}/limited"
    assert gateway.call("GET", other, token=str(eve["access_token"])).status == 200


TAKEN = [
    "Proxy", "X-Real-IP", "True-Client-IP", "X-Client-IP", "CF-Connecting-IP", "X-Original-URL",
    "X-Rewrite-URL", "X-HTTP-Method-Override", "Script-Name", "Path-Info", "X-Script-Name",
    "X-Matched-Path", "X-Invoke-Path", "X-Middleware-Subrequest", "X-Sendfile-Type", "X-Accel-Mapping",
]  # fmt: skip


@pytest.mark.parametrize("name", TAKEN)
def test_no_client_speaks_of_another_address_path_or_method(gateway: Running, name: str) -> None:
    spelled = (name, name.upper(), name.replace("-", "_"), name.replace("-", "."), name.lower())
    answer = gateway.call("GET", "/public/x", *((one, "/me#6.6.6.6") for one in spelled))
    assert answer.status == 200
    assert [name for name, value in answer.json["fields"] if "6.6.6.6" in value] == []


def test_a_route_keeps_what_it_names_of_them(gateway: Running) -> None:
    answer = gateway.call("POST", "/overriding", *((name, "DELETE") for name in TAKEN), body=b"")
    kept = [name for name, value in answer.json["fields"] if value == "DELETE"]
    assert kept == ["X-HTTP-Method-Override"]


def test_someone_elses_order_is_refused_with_its_reason(
    gateway: Running, alice: dict[str, Any]
) -> None:
    token = str(alice["access_token"])
    mine = gateway.call("GET", f"/v1/users/{alice['user']['user_id']}/orders/7", token=token)
    assert mine.status == 200
    assert mine.json["target"] == f"/users/{alice['user']['user_id']}/orders/7"
    other = gateway.call("GET", "/v1/users/someone/orders/7", token=token)
    assert (other.status, other.reason) == (403, "no_rule")


@pytest.mark.parametrize("path", ["/hidden", "/hidden-until"])
def test_a_concealed_denial_is_the_unknown_route(
    gateway: Running, alice: dict[str, Any], path: str
) -> None:
    token = str(alice["access_token"])
    hidden = gateway.call("GET", path, ("X-Request-Id", "same-request-id-1"), token=token)
    unknown = gateway.call("GET", "/nowhere", ("X-Request-Id", "same-request-id-1"), token=token)
    assert hidden.status == unknown.status == 404
    assert hidden.body == unknown.body
    without_date = [[f for f in a.fields if f[0].lower() != "date"] for a in (hidden, unknown)]
    assert without_date[0] == without_date[1]


@pytest.mark.parametrize(
    "target",
    [
        "/public/../me", "/public/./x", "/public/%2e%2e/me", "/public/%2E./me", "//me", "/public//x",
        "/public/%2fx", "/public/a%5cb", "/public/a\\b", "/public/a;b", "/public/x#y", "/public/%00",
        "/public/%0a", "/public/%zz", "/public/%c0%af", "/public/%ff", "/public/%2541", "/public/%252e",
        "/public/%", "/public/%7f", "/public/%ef%bc%8e%ef%bc%8e/me", "/public/%ef%bc%8fx",
        "/public/%ef%bc%bcx", "/public/%ef%bc%852e", "/public/%e2%80%a5/me",
    ],
)  # fmt: skip
def test_an_ambiguous_path_is_400_and_never_reaches_the_upstream(
    gateway: Running, target: str
) -> None:
    before = len(gateway.echo.seen)
    answer = gateway.call("GET", target)
    assert answer.status == 400
    assert answer.reason in ("ambiguous_path", "request_malformed")
    if "#" not in target and "\\" not in target:
        assert answer.reason == "ambiguous_path"
    assert len(gateway.echo.seen) == before


@pytest.mark.parametrize(
    "target",
    [
        "/public/a%20b",
        "/public/%C3%A9",
        "/public/x?y=/../&z=%2f",
        "/public/%23",
        "/public/a/",
        "/public/~a+b,c:d@e!$&'()*=",
    ],
)
def test_the_bytes_sent_are_the_bytes_received(gateway: Running, target: str) -> None:
    answer = gateway.call("GET", target)
    assert answer.status == 200
    assert answer.json["target"] == target


def test_an_encoded_slash_passes_where_the_route_allows_it(gateway: Running) -> None:
    answer = gateway.call("GET", "/files/a%2Fb")
    assert answer.status == 200
    assert answer.json["target"] == "/files/a%2Fb"


def test_no_encoded_slash_leads_a_stranger_to_the_path_of_a_protected_route(
    gateway: Running,
) -> None:
    before = len(gateway.echo.seen)
    for target in ("/files/secret%2Fkeys", "/files/secret%2fkeys", "/files/%73ecret%2Fkeys"):
        answer = gateway.call("GET", target)
        assert (answer.status, answer.reason) == (400, "ambiguous_path")
    assert len(gateway.echo.seen) == before


def test_a_trailing_slash_is_another_path(gateway: Running, alice: dict[str, Any]) -> None:
    assert gateway.call("GET", "/me/", token=str(alice["access_token"])).reason == "route_unknown"
    assert gateway.call("GET", "/public/").reason == "route_unknown"


def test_a_typed_parameter_and_its_methods(gateway: Running) -> None:
    assert gateway.call("GET", "/typed/12").status == 200
    assert gateway.call("HEAD", "/typed/12").status == 200
    assert gateway.call("GET", "/typed/ab").reason == "route_unknown"
    wrong = gateway.call("POST", "/typed/12")
    assert (wrong.status, wrong.reason) == (405, "method_not_allowed")
    assert set((wrong.get("allow") or "").replace(" ", "").split(",")) == {"GET", "HEAD"}


def test_a_refused_credential_on_an_optional_route_is_refused(gateway: Running) -> None:
    assert gateway.call("GET", "/maybe").status == 200
    answer = gateway.call("GET", "/maybe", token="nonsense")
    assert (answer.status, answer.reason) == (401, "token_malformed")


def test_a_host_of_its_own_comes_first(gateway: Running) -> None:
    for host in (
        "other.example.com",
        "OTHER.example.com",
        "other.example.com.",
        "other.example.com:8080",
    ):
        assert gateway.call("GET", "/me", host=host).status == 200
    assert (
        gateway.call("GET", "http://other.example.com/me", host="other.example.com").status == 200
    )
    clash = gateway.call("GET", "http://evil.example.com/me", host="other.example.com")
    assert (clash.status, clash.reason) == (400, "host_mismatch")


def test_limits_answer_429_with_retry_after(gateway: Running) -> None:
    answers = [gateway.call("GET", "/limited") for _ in range(5)]
    assert [a.status for a in answers] == [200, 200, 200, 429, 429]
    assert answers[-1].reason == "rate_limited"
    assert int(answers[-1].get("retry-after") or 0) >= 1


def test_a_dead_upstream_is_502(gateway: Running) -> None:
    answer = gateway.call("GET", "/down")
    assert (answer.status, answer.reason) == (502, "upstream_unreachable")


def test_a_known_body_over_the_routes_limit_is_413_before_the_upstream_sees_it(
    gateway: Running,
) -> None:
    before = len(gateway.echo.seen)
    answer = gateway.call("POST", "/public/x", body=b"x" * 2000)
    assert (answer.status, answer.reason) == (413, "body_too_large")
    assert answer.get("connection") == "close"
    assert answer.json["detail"] == "`max_body` of the route `public` is 1,024 bytes."
    assert len(gateway.echo.seen) == before
    chunked = (
        b"POST /public/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        + b"7d0\r\n" + b"x" * 2000 + b"\r\n0\r\n\r\n"
    )  # fmt: skip
    assert gateway.raw(chunked).status == 413
    ok = b"POST /public/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
    assert gateway.raw(ok).json["body"] == "hello"


@pytest.mark.parametrize(
    "target",
    [
        "/store/a;b.txt?x=;",
        "/store/x%5Cy",
        "/store/100%2525/",
        "/store/a%3Bb;c/d",
        "/store/;",
        "/store/caf%C3%A9%25;",
    ],
)
def test_names_of_files_pass_byte_by_byte_where_a_route_says_so(
    gateway: Running, target: str
) -> None:
    assert gateway.call("GET", target).json["target"] == target
    refused = gateway.call("GET", target.replace("/store", "/app"))
    assert (refused.status, refused.reason) == (400, "ambiguous_path")


def test_no_climb_of_the_corpora_reaches_the_upstream_through_a_route_for_files(
    gateway: Running,
) -> None:
    climbs = [path.replace("/files", "/store", 1) for path in CLIMBS if path[:6] == "/files"]
    before = len(gateway.echo.seen)
    for path in climbs:
        answer = gateway.raw(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode("latin-1"))
        assert answer.status == 400, path
    assert len(gateway.echo.seen) == before


def test_whatever_a_backend_reads_it_serves_nothing_that_was_not_judged(gateway: Running) -> None:
    spellings = ("%s", "/a%s", "/secret%s", "/a;%s", "/a%%5c%s", "/s%%2565cret%s", "/a%%253b%s")
    for path in (*AMBIGUOUS, ";x", "%5cx", ";/x", "%255cx", "%3bx/y", ";x%5c..%5c/", "/..;/secret"):
        for spelling in spellings:
            target = "/store" + spelling % path
            answer = gateway.raw(f"GET {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode("latin-1"))
            if answer.status != 200:
                assert answer.status in (400, 404), target
                continue
            assert answer.json["target"] == target
            for text in backends(target):
                place = served(text)
                assert place == "/store" or place.startswith("/store/"), (target, text)
                assert not (place + "/").startswith("/store/secret/"), (target, text)


@pytest.mark.parametrize("target", ["/app/", "/app/a", "/app/a%20b/c/?x=1", "/app/%61/~u/@:'()"])
def test_a_prefix_sends_all_below_it_on_unchanged(gateway: Running, target: str) -> None:
    assert gateway.call("GET", target).json["target"] == target


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "DELETE", "OPTIONS"])
def test_the_bare_name_of_a_prefix_is_led_to_the_slash(gateway: Running, method: str) -> None:
    before = len(gateway.echo.seen)
    answer = gateway.call(method, "/app?a=b%2F&c=/d")
    assert (answer.status, answer.get("location")) == (308, "/app/?a=b%2F&c=/d")
    assert answer.get("cache-control") == "no-store"
    assert len(gateway.echo.seen) == before


def test_a_body_for_the_bare_name_is_not_taken_for_the_next_request(gateway: Running) -> None:
    smuggled = b"GET /app/smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
    head = b"POST /app HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(smuggled)
    before = len(gateway.echo.seen)
    answer = gateway.raw(head + smuggled, method="POST")
    assert (answer.status, answer.get("connection"), answer.closed) == (308, "close", True)
    assert len(gateway.echo.seen) == before


def test_who_may_not_call_is_not_led_to_the_slash(
    gateway: Running, alice: dict[str, object]
) -> None:
    assert gateway.call("GET", "/own/x").status == 401
    answer = gateway.call("GET", "/own/x", token=str(alice["access_token"]))
    assert (answer.status, answer.get("location")) == (308, "/own/x/")
    answer = gateway.call("GET", "/own/x/y", token=str(alice["access_token"]))
    assert answer.json["target"] == "/x/y"


def test_a_route_without_a_bound_takes_a_body_past_the_default(gateway: Running) -> None:
    body = b"x" * (11 * 1024 * 1024)
    assert len(gateway.call("POST", "/uploads/x", body=body).json["body"]) == len(body)


def test_expect_100_continue_is_answered_after_the_decision(gateway: Running) -> None:
    head = (
        b"POST /public/x HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
    )
    assert gateway.raw(head + b"hello").json["body"] == "hello"
    refused = head.replace(b"/public/x", b"/me")
    assert gateway.raw(refused).status == 401


def test_whatever_the_gateway_answers_itself_says_so(gateway: Running) -> None:
    origin = ("Origin", "https://app.example.com")
    preflight = gateway.call("OPTIONS", "/shared", origin, ("Access-Control-Request-Method", "GET"))
    keys = gateway.call("GET", "/.well-known/jwks.json")
    known = gateway.call("GET", "/.well-known/jwks.json", ("If-None-Match", keys.get("etag") or ""))
    assert [one.status for one in (preflight, keys, known)] == [204, 200, 304]
    for answer in (preflight, keys, known, gateway.admin("/healthz")):
        assert answer.get("proxy-status") == "authgate"
    assert gateway.call("GET", "/public/x").get("proxy-status") is None


def test_security_headers_are_added_where_the_upstream_sent_none(gateway: Running) -> None:
    answer = gateway.call("GET", "/public/x")
    assert answer.get("x-content-type-options") == "nosniff"
    assert answer.get("referrer-policy")
    assert answer.get("x-upstream") == "echo"
