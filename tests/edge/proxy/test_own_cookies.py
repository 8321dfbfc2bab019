"""`Cookie` as it is read and sent on: which pairs are ours, however many there are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.edge.http1.request_head import OWN_COOKIES, RequestHead, RequestHeadReader
from gateway.edge.proxy.request import CallReader
from gateway.edge.proxy.request_headers import foreign_cookies
from gateway.model import Call, Credential, CredentialKind, Reason
from tests.cpu_cost import cost_ratio

PIECES = (
    b";",
    b"; ",
    b"=",
    b" ",
    b"\t",
    b"a",
    b"__Host-session",
    b"__host-DEVICE",
    b"x__Host-session",
)
LINES = st.lists(st.sampled_from(PIECES), max_size=14).map(b"".join)


def head_with(*cookies: bytes) -> RequestHead:
    lines = (b"GET / HTTP/1.1", b"Host: a.example", *(b"Cookie: " + line for line in cookies))
    head = RequestHeadReader().read(b"\r\n".join(lines))
    assert isinstance(head, RequestHead)
    return head


def credential_of(head: RequestHead) -> Credential | Reason | None:
    calls = CallReader()
    call = calls.read(head, calls.peer("192.0.2.1", https=False))
    return call.credential if isinstance(call, Call) else call


def named(line: bytes) -> list[tuple[bytes, bytes]]:
    pairs = (pair.partition(b"=") for pair in line.split(b";"))
    return [(name.strip(b" \t"), value.strip(b" \t")) for name, _, value in pairs]


@given(st.lists(LINES, min_size=1, max_size=2))
def test_the_session_cookie_is_the_one_pair_of_its_name(lines: list[bytes]) -> None:
    head = head_with(*lines)
    values = [v for line in head.cookie or () for n, v in named(line) if n == b"__Host-session"]
    expected: Credential | Reason | None = None
    if values:
        expected = Credential(CredentialKind.COOKIE, values[0].decode())
    assert credential_of(head) == (Reason.AMBIGUOUS_HEADER if len(values) > 1 else expected)


@given(st.lists(LINES, min_size=1, max_size=2))
def test_what_goes_on_are_the_other_pairs_in_their_order(lines: list[bytes]) -> None:
    others = [pair for line in lines for pair in named(line) if pair[0].lower() not in OWN_COOKIES]
    sent = [
        pair for line in foreign_cookies(lines) for pair in named(line.removeprefix(b"Cookie:"))
    ]
    empty = (b"", b"")
    assert [one for one in sent if one != empty] == [one for one in others if one != empty]


@pytest.mark.parametrize("pair", [b";", b";a", b"; a=b"])
def test_thousands_of_pairs_take_no_longer_than_to_part_them_thrice(pair: bytes) -> None:
    """They are read before anybody knows who calls: 165 such calls a second once took a core."""
    line = b"__Host-session=x" + pair * (15_900 // len(pair))
    head = head_with(line)
    assert cost_ratio(lambda: credential_of(head), lambda: line.split(b";")) < 3
    assert cost_ratio(lambda: foreign_cookies([line]), lambda: line.split(b";")) < 3
