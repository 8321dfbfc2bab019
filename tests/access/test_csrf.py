"""Whether the user meant a call that carries the cookie, by the browser's own headers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.access.definitions import Cors
from gateway.access.routing.csrf import (
    AllowedOrigins,
    OriginCheck,
    OwnOrigins,
    check_origin,
    csrf_refusal,
)
from gateway.access.simulation import SimulatedRequest, simulated_call
from gateway.model import Call, Reason

LISTED = "https://app.example.com"
CORS = Cors("app", frozenset((LISTED,)), credentials=True)
OPEN = Cors("open", frozenset((LISTED,)), credentials=False)


PUBLIC = "http://gate.example:8080"


def at(cors: Cors | None = None, host: str | None = None, url: str = PUBLIC) -> AllowedOrigins:
    """What a route with this host and `cors` allows, of a gateway with this public URL."""
    return AllowedOrigins(OwnOrigins(url), host, cors)


def call(method: str, *headers: tuple[str, str], url: str = "http://gate.example:8080/a") -> Call:
    found = simulated_call(SimulatedRequest(method, url, headers=list(headers)))
    assert not isinstance(found, Reason)
    return found


def site(value: str) -> tuple[str, str]:
    return ("Sec-Fetch-Site", value)


def origin(value: str) -> tuple[str, str]:
    return ("Origin", value)


@pytest.mark.parametrize(
    ("headers", "verdict"),
    [
        ([site("same-origin")], OriginCheck.PROVEN),
        ([site("same-origin"), origin("http://gate.example:8080")], OriginCheck.PROVEN),
        ([site("same-origin"), origin(LISTED)], OriginCheck.PROVEN),
        ([site("same-origin"), origin("https://evil.example")], Reason.CROSS_ORIGIN),
        ([site("same-origin"), origin("http://gate.example:9999")], Reason.CROSS_ORIGIN),
        ([site("same-origin"), origin("http://gate.example")], Reason.CROSS_ORIGIN),
        ([site("same-origin"), origin("http://evil.example:8080")], Reason.CROSS_ORIGIN),
        # Two ports of one host are the same site.
        ([site("same-site"), origin("http://gate.example:9999")], Reason.CROSS_ORIGIN),
        ([site("same-site")], Reason.CROSS_ORIGIN),
        ([site("cross-site"), origin("https://evil.example")], Reason.CROSS_ORIGIN),
        ([site("cross-site"), origin(LISTED)], OriginCheck.PROVEN),
        ([site("same-site"), origin(LISTED)], OriginCheck.PROVEN),
        ([site("none")], Reason.CROSS_ORIGIN),
        ([site("nonsense")], Reason.CROSS_ORIGIN),
        ([origin("http://gate.example:8080")], OriginCheck.PROVEN),
        ([origin("http://GATE.example:8080")], Reason.CROSS_ORIGIN),
        ([origin("http://gate.example")], Reason.CROSS_ORIGIN),
        ([origin("https://gate.example:8080")], Reason.CROSS_ORIGIN),
        ([origin(LISTED)], OriginCheck.PROVEN),
        ([origin(LISTED + ".evil.example")], Reason.CROSS_ORIGIN),
        ([origin("null")], Reason.CROSS_ORIGIN),
        ([site("same-origin"), origin("null")], Reason.CROSS_ORIGIN),
        ([], OriginCheck.NEEDS_TOKEN),
        ([site("same-origin"), site("cross-site")], Reason.CROSS_ORIGIN),
        ([origin(LISTED), origin("https://evil.example")], Reason.CROSS_ORIGIN),
    ],
)
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_an_unsafe_call_needs_proof(
    method: str, headers: list[tuple[str, str]], verdict: OriginCheck | Reason
) -> None:
    assert check_origin(call(method, *headers), at(CORS)) is verdict


@pytest.mark.parametrize(
    ("headers", "verdict"),
    [
        ([site("same-origin")], OriginCheck.PROVEN),
        ([site("none")], OriginCheck.PROVEN),
        ([site("same-origin"), origin("http://gate.example:8080")], OriginCheck.PROVEN),
        ([site("same-origin"), origin("https://evil.example")], OriginCheck.WITHOUT_COOKIE),
        ([site("none"), origin("https://evil.example")], OriginCheck.WITHOUT_COOKIE),
        ([origin("http://gate.example:8080")], OriginCheck.PROVEN),
        ([site("cross-site"), origin(LISTED)], OriginCheck.PROVEN),
        ([site("cross-site")], OriginCheck.WITHOUT_COOKIE),
        ([site("same-site")], OriginCheck.WITHOUT_COOKIE),
        (
            [site("cross-site"), ("Sec-Fetch-Mode", "navigate"), ("Sec-Fetch-Dest", "document")],
            OriginCheck.PROVEN,
        ),
        (
            [site("cross-site"), ("Sec-Fetch-Mode", "navigate"), ("Sec-Fetch-Dest", "iframe")],
            OriginCheck.WITHOUT_COOKIE,
        ),
        ([site("cross-site"), ("Sec-Fetch-Dest", "image")], OriginCheck.WITHOUT_COOKIE),
        ([origin("null")], OriginCheck.WITHOUT_COOKIE),
        ([origin("https://evil.example")], OriginCheck.WITHOUT_COOKIE),
        ([], OriginCheck.NEEDS_TOKEN),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_read_without_proof_is_one_without_the_cookie(
    method: str, headers: list[tuple[str, str]], verdict: OriginCheck
) -> None:
    assert check_origin(call(method, *headers), at(CORS)) is verdict


def test_a_websocket_handshake_is_no_read() -> None:
    # CVE-2024-23898: no check of Origin in the handshake.
    upgrade = ("Upgrade", "websocket")
    assert (
        check_origin(call("GET", upgrade, origin("https://evil.example")), at(CORS))
        is Reason.CROSS_ORIGIN
    )
    assert check_origin(call("GET", upgrade, site("none")), at()) is Reason.CROSS_ORIGIN
    assert check_origin(call("GET", upgrade), at()) is OriginCheck.NEEDS_TOKEN


def test_an_origin_counts_only_where_credentials_are_allowed_to_it() -> None:
    for cors in (None, OPEN, Cors("any", frozenset("*"))):
        assert (
            check_origin(call("POST", site("cross-site"), origin(LISTED)), at(cors))
            is Reason.CROSS_ORIGIN
        )


@pytest.mark.parametrize("headers", [[], [site("same-origin")], [site("cross-site")]])
def test_an_origin_of_nobody_proves_nothing_even_where_it_is_listed(
    headers: list[tuple[str, str]],
) -> None:
    listed = at(Cors("app", frozenset(("null",)), credentials=True))
    said = [*headers, origin("null")]
    assert check_origin(call("POST", *said), listed) is Reason.CROSS_ORIGIN
    assert check_origin(call("GET", *said), listed) is OriginCheck.WITHOUT_COOKIE


@pytest.mark.parametrize(
    ("said", "url", "host", "meant"),
    [
        # `Host` is whatever the client says, so alone it makes no origin our own.
        ("https://evil.example", "https://gate.example", None, False),
        ("http://evil.example", "https://gate.example", None, False),
        ("https://gate.example", "https://gate.example", None, True),
        ("http://gate.example", "https://gate.example", None, False),
        ("https://gate.example:8443", "https://gate.example", None, False),
        ("https://shop.example", "https://gate.example", "shop.example", True),
        ("http://shop.example", "https://gate.example", "shop.example", False),
        ("https://shop.example:9999", "https://gate.example", "shop.example", False),
        ("https://shop.example.evil.example", "https://gate.example", "shop.example", False),
        ("https://shop.example", "https://gate.example", "other.example", False),
        ("https://shop.example", "https://gate.example:8443", "shop.example", True),
        ("https://shop.example:8443", "https://gate.example:8443", "shop.example", True),
        ("http://shop.example", "http://127.0.0.1:8080", "shop.example", True),
        ("http://shop.localhost:8080", "http://localhost:8080", "shop.localhost", True),
        ("http://shop.localhost:9999", "http://localhost:8080", "shop.localhost", False),
        ("https://shop.example", "http://127.0.0.1:8080", "shop.example", True),
        ("https://shop.example:8080", "http://127.0.0.1:8080", "shop.example", True),
        ("http://shop.example", "http://gate.localhost:8080", "shop.example", True),
        ("http://[::1]:8080", "http://[::1]:8080", None, True),
        ("", "", None, False),
        ("https://shop.example", "", "shop.example", True),
    ],
)
def test_own_origins_are_the_public_url_and_the_hosts_that_routes_name(
    said: str, url: str, host: str | None, meant: bool
) -> None:
    allowed = at(host=host, url=url)
    named = host or said.partition("://")[2] or "x"
    unsafe = call("POST", origin(said), url=f"http://{named}/a")
    if said:
        assert check_origin(unsafe, allowed) is (
            OriginCheck.PROVEN if meant else Reason.CROSS_ORIGIN
        )
    else:
        assert not allowed.hold(said)


@pytest.mark.parametrize(
    ("said", "url", "meant"),
    [
        # Where TLS ends before the gateway, only the browser knows the scheme.
        ("https://shop.example", "http://shop.example/a", True),
        ("http://shop.example", "http://shop.example/a", True),
        ("https://shop.example", "https://shop.example:443/a", True),
        ("http://shop.example", "http://shop.example:80/a", True),
        ("http://shop.example", "https://shop.example/a", False),
        ("https://shop.example:8443", "https://shop.example/a", False),
        ("https://evil.example", "http://shop.example/a", False),
        ("shop.example", "http://shop.example/a", False),
    ],
)
def test_an_origin_beside_fetch_metadata_agrees_with_the_host_that_was_asked(
    said: str, url: str, meant: bool
) -> None:
    unsafe = call("POST", site("same-origin"), origin(said), url=url)
    wanted = OriginCheck.PROVEN if meant else Reason.CROSS_ORIGIN
    assert check_origin(unsafe, at(url="https://gate.example")) is wanted


@pytest.mark.parametrize(
    ("url", "host", "at_host"),
    [
        ("https://gate.example:8443", None, "https://gate.example:8443"),
        ("https://gate.example:8443", "gate.example", "https://gate.example:8443"),
        ("https://gate.example.", "gate.example", "https://gate.example."),
        ("https://gate.example:8443", "shop.example", "https://shop.example:8443"),
        ("https://gate.example", "shop.example", "https://shop.example"),
        ("http://gate.example", "shop.example", "http://shop.example"),
    ],
)
def test_a_host_of_a_route_is_reached_as_the_public_url_is(
    url: str, host: str | None, at_host: str
) -> None:
    assert OwnOrigins(url).origin_at(host) == at_host


class AnyToken:
    """Meets `access.origin.CsrfCheck`: the page has even got hold of the token."""

    def csrf_valid(self, call: Call) -> bool:
        return isinstance(call, Call)


_FOREIGN = st.sampled_from(
    ["null", "http://gate.example", "http://gate.example:9999", "https://gate.example:8080",
     "http://gate.example.evil.example:8080", LISTED + ".evil.example", "https://evil.example"]
)  # fmt: skip
_ADDED = st.lists(
    st.tuples(
        st.sampled_from(["Referer", "X-CSRF-Token", "Sec-Fetch-Mode", "Sec-Fetch-Dest", "Accept"]),
        st.sampled_from(["http://gate.example:8080/", LISTED, "navigate", "document", "cors"]),
    )
)


@given(
    method=st.sampled_from(["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "ANY"]),
    of=st.sampled_from(["same-origin", "same-site", "cross-site", "none"]),
    said=_FOREIGN,
    added=_ADDED,
    fetch_metadata=st.booleans(),
    cors=st.sampled_from([CORS, OPEN, None]),
)
def test_nothing_that_a_foreign_page_can_send_proves_an_unsafe_call(
    method: str,
    of: str,
    said: str,
    added: list[tuple[str, str]],
    fetch_metadata: bool,
    cors: Cors | None,
) -> None:
    if of == "same-origin" and said == "https://gate.example:8080":
        return  # TLS that ended before the gateway: only the browser knows
    headers = [origin(said), *([site(of)] if fetch_metadata else []), *added]
    assert csrf_refusal(call(method, *headers), at(cors), AnyToken()) is Reason.CROSS_ORIGIN


def test_a_handshake_without_proof_is_refused_and_a_read_is_a_strangers() -> None:
    assert csrf_refusal(call("GET"), at(), None) is Reason.NO_CREDENTIAL
    assert csrf_refusal(call("GET", ("Upgrade", "websocket")), at(), None) is Reason.CSRF_INVALID
    assert csrf_refusal(call("POST"), at(), None) is Reason.CSRF_INVALID
    assert csrf_refusal(call("POST"), at(), AnyToken()) is None
