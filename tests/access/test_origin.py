"""Whether the user meant a call that carries the cookie, by the browser's own headers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.access.asking import Question, call_of
from gateway.access.origin import Intent, intent, unmeant
from gateway.access.upstreams import Cors
from gateway.model import Call, Reason

LISTED = "https://app.example.com"
CORS = Cors("app", frozenset((LISTED,)), credentials=True)
OPEN = Cors("open", frozenset((LISTED,)), credentials=False)


def call(method: str, *headers: tuple[str, str], url: str = "http://gate.example:8080/a") -> Call:
    found = call_of(Question(method, url, headers=list(headers)))
    assert not isinstance(found, Reason)
    return found


def site(value: str) -> tuple[str, str]:
    return ("Sec-Fetch-Site", value)


def origin(value: str) -> tuple[str, str]:
    return ("Origin", value)


@pytest.mark.parametrize(
    ("headers", "verdict"),
    [
        ([site("same-origin")], Intent.PROVEN),
        ([site("same-origin"), origin("http://gate.example:8080")], Intent.PROVEN),
        # Two ports of one host are the same site.
        ([site("same-site"), origin("http://gate.example:9999")], Reason.CROSS_ORIGIN),
        ([site("same-site")], Reason.CROSS_ORIGIN),
        ([site("cross-site"), origin("https://evil.example")], Reason.CROSS_ORIGIN),
        ([site("cross-site"), origin(LISTED)], Intent.PROVEN),
        ([site("same-site"), origin(LISTED)], Intent.PROVEN),
        ([site("none")], Reason.CROSS_ORIGIN),
        ([site("nonsense")], Reason.CROSS_ORIGIN),
        ([origin("http://gate.example:8080")], Intent.PROVEN),
        ([origin("http://GATE.example:8080")], Reason.CROSS_ORIGIN),
        ([origin("http://gate.example")], Reason.CROSS_ORIGIN),
        ([origin("https://gate.example:8080")], Reason.CROSS_ORIGIN),
        ([origin(LISTED)], Intent.PROVEN),
        ([origin(LISTED + ".evil.example")], Reason.CROSS_ORIGIN),
        ([origin("null")], Reason.CROSS_ORIGIN),
        ([site("same-origin"), origin("null")], Reason.CROSS_ORIGIN),
        ([], Intent.NEEDS_TOKEN),
        ([site("same-origin"), site("cross-site")], Reason.CROSS_ORIGIN),
        ([origin(LISTED), origin("https://evil.example")], Reason.CROSS_ORIGIN),
    ],
)
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_an_unsafe_call_needs_proof(
    method: str, headers: list[tuple[str, str]], verdict: Intent | Reason
) -> None:
    assert intent(call(method, *headers), CORS) is verdict


@pytest.mark.parametrize(
    ("headers", "verdict"),
    [
        ([site("same-origin")], Intent.PROVEN),
        ([site("none")], Intent.PROVEN),
        ([site("cross-site"), origin(LISTED)], Intent.PROVEN),
        ([site("cross-site")], Intent.WITHOUT_COOKIE),
        ([site("same-site")], Intent.WITHOUT_COOKIE),
        (
            [site("cross-site"), ("Sec-Fetch-Mode", "navigate"), ("Sec-Fetch-Dest", "document")],
            Intent.PROVEN,
        ),
        (
            [site("cross-site"), ("Sec-Fetch-Mode", "navigate"), ("Sec-Fetch-Dest", "iframe")],
            Intent.WITHOUT_COOKIE,
        ),
        ([site("cross-site"), ("Sec-Fetch-Dest", "image")], Intent.WITHOUT_COOKIE),
        ([origin("null")], Intent.WITHOUT_COOKIE),
        ([origin("https://evil.example")], Intent.WITHOUT_COOKIE),
        ([], Intent.NEEDS_TOKEN),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_read_without_proof_is_one_without_the_cookie(
    method: str, headers: list[tuple[str, str]], verdict: Intent
) -> None:
    assert intent(call(method, *headers), CORS) is verdict


def test_a_websocket_handshake_is_no_read() -> None:
    # CVE-2024-23898: no check of Origin in the handshake.
    upgrade = ("Upgrade", "websocket")
    assert intent(call("GET", upgrade, origin("https://evil.example")), CORS) is Reason.CROSS_ORIGIN
    assert intent(call("GET", upgrade, site("none")), None) is Reason.CROSS_ORIGIN
    assert intent(call("GET", upgrade), None) is Intent.NEEDS_TOKEN


def test_an_origin_counts_only_where_credentials_are_allowed_to_it() -> None:
    for cors in (None, OPEN, Cors("any", frozenset("*"))):
        assert intent(call("POST", site("cross-site"), origin(LISTED)), cors) is Reason.CROSS_ORIGIN


def test_the_default_port_is_no_part_of_an_origin() -> None:
    https = call("POST", origin("https://gate.example"), url="https://gate.example:443/a")
    assert intent(https, None) is Intent.PROVEN


class AnyToken:
    """Meets `access.origin.CsrfCheck`: the page has even got hold of the token."""

    def csrf_valid(self, call: Call) -> bool:
        return True


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
    of=st.sampled_from(["same-site", "cross-site"]),
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
    headers = [origin(said), *([site(of)] if fetch_metadata else []), *added]
    assert unmeant(call(method, *headers), cors, AnyToken()) is Reason.CROSS_ORIGIN


def test_a_handshake_without_proof_is_refused_and_a_read_is_a_strangers() -> None:
    assert unmeant(call("GET"), None, None) is Reason.NO_CREDENTIAL
    assert unmeant(call("GET", ("Upgrade", "websocket")), None, None) is Reason.CSRF_INVALID
    assert unmeant(call("POST"), None, None) is Reason.CSRF_INVALID
    assert unmeant(call("POST"), None, AnyToken()) is None
