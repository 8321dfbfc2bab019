"""The header contract, forward: no client speaks with the gateway's voice."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import HttpRequestParser
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.edge.http1.field_lines import field_line
from gateway.edge.http1.grammar import Malformed
from gateway.edge.http1.request_head import (
    MEMO_ENTRIES,
    HeadLimits,
    RequestHead,
    RequestHeadReader,
)
from gateway.edge.proxy.request_headers import (
    appended_headers,
    foreign_cookies,
    forwarded_headers,
    identity_headers,
)
from gateway.model import Reason
from tests.edge.rig import principal, running
from tests.slots import slots_of

OURS = (
    "X-Auth-User-Id",
    "X-Auth-Email",
    "X-Auth-Roles",
    "X-Auth-Session-Id",
    "X-Auth-Assertion",
    "X-Auth-Whatever",
    "X-Request-Id",
    "traceparent",
    "X-Forwarded-For",
    "X-Forwarded-Proto",
    "X-Forwarded-Host",
    "X-Forwarded-Prefix",
    "Forwarded",
    "Via",
    "X-Real-Ip",
    "Proxy",
    "True-Client-IP",
    "X-Client-IP",
    "Client-IP",
    "X-Cluster-Client-IP",
    "CF-Connecting-IP",
    "CF-Connecting-IPv6",
    "Fastly-Client-IP",
    "Fly-Client-IP",
    "X-Original-URL",
    "X-Rewrite-URL",
    "X-Script-Name",
    "X-Matched-Path",
    "X-Invoke-Path",
    "X-Middleware-Subrequest",
    "X-Sendfile-Type",
    "X-Accel-Mapping",
    "Script-Name",
    "Path-Info",
    "X-HTTP-Method-Override",
    "X-HTTP-Method",
    "X-Method-Override",
    "X-Forwarded",
    "Forwarded-For",
    "Connection",
    "Keep-Alive",
    "Proxy-Connection",
    "Proxy-Authorization",
    "TE",
    "Trailer",
    "Content-Length",
    "Transfer-Encoding",
)


def head(*lines: bytes, reader: RequestHeadReader | None = None) -> RequestHead:
    block = b"\r\n".join([b"GET /a HTTP/1.1", b"Host: x", *lines])
    read = (reader or RequestHeadReader()).read(block)
    assert isinstance(read, RequestHead)
    return read


@st.composite
def spelling(draw: st.DrawFn) -> bytes:
    """One of ours, as no two readers would spell it."""
    name = draw(st.sampled_from(OURS))
    letters = [
        draw(st.sampled_from("-_.~!'+*"))
        if letter == "-"
        else draw(st.sampled_from([letter.upper(), letter.lower()]))
        for letter in name
    ]
    return "".join(letters).encode()


@given(st.lists(spelling(), min_size=1, max_size=8), st.binary(max_size=3))
@example([b"X_Auth_User_Id", b"x-auth-user-id"], b"1")
@example([b"Content_Length", b"Transfer.Encoding"], b"5")
def test_no_spelling_of_ours_travels(names: list[bytes], junk: bytes) -> None:
    lines = [name + b": chunked" for name in names] + [b"X-Else: kept"]
    try:
        read = head(*lines)
    except Malformed:
        return  # a plain spelling of a framing field with a wrong value
    assert read.lines == [b"X-Else: kept"]


@given(
    st.lists(
        st.sampled_from(["close", "keep-alive", "X-A", "x-b", "X-Auth-User-Id", "Host", "", "x_a"])
    )
)
def test_what_connection_names_does_not_travel(names: list[str]) -> None:
    read = head(b"X-A: 1", b"Connection: " + ", ".join(names).encode(), b"X-B: 2", b"X-C: 3")
    named = {name.lower() for name in names}
    expected = [
        line for line in (b"X-A: 1", b"X-B: 2", b"X-C: 3") if line[:3].decode().lower() not in named
    ]
    assert read.lines == expected
    assert read.host == b"x"


@pytest.mark.parametrize(
    "name",
    [
        "X-Auth-User-Id",
        "X-Request-Id",
        "traceparent",
        "Forwarded",
        "Via",
        "X-Forwarded-For",
        "Host",
    ],
)
async def test_no_connection_option_takes_away_a_field_of_ours(name: str) -> None:
    async with running() as rig:
        rig.gate.principal = principal()
        await rig.ask(f"GET /a HTTP/1.1\r\nHost: x\r\nConnection: close, {name}\r\n\r\n".encode())
        assert len(rig.upstream.requests[0].values(name)) == 1


@pytest.mark.parametrize("signed_in", [True, False])
async def test_exactly_one_identity_arrives_and_it_is_ours(signed_in: bool) -> None:
    forged = b"".join(
        name + b": root\r\n"
        for name in (
            b"X-Auth-User-Id",
            b"x-auth-user-id",
            b"X_AUTH_USER_ID",
            b"X-AUTH-ROLES",
            b"X_Auth-Email",
        )
    )
    async with running() as rig:
        rig.gate.principal = principal() if signed_in else None
        await rig.ask(b"GET /a HTTP/1.1\r\nHost: x\r\n" + forged + b"\r\n")
        (received,) = rig.upstream.requests
        ids = [v for n, v in received.fields if n.lower().replace(b"_", b"-") == b"x-auth-user-id"]
        assert ids == ([b"u-1"] if signed_in else [])
        assert b"root" not in received.head


def test_an_address_is_rendered_in_printable_ascii_and_never_ambiguously() -> None:
    assert b"X-Auth-Email: j%C3%BCrgen@example.com" in identity_headers(
        principal(email="jürgen@example.com")
    )
    assert b"X-Auth-Email: 100%25@example.com" in identity_headers(
        principal(email="100%@example.com")
    )
    assert b"\r\n" not in identity_headers(principal(email="a\r\nX: y", roles=(), session_id=None))[
        17:
    ].replace(b"\r\nX-Auth-", b"")


def test_an_anonymous_session_and_address_are_absent() -> None:
    lines = identity_headers(principal(email=None, session_id=None))
    assert lines == b"X-Auth-User-Id: u-1\r\nX-Auth-Roles: user,editor"


@pytest.mark.parametrize(
    ("cookies", "left"),
    [
        ([b"a=1"], [b"Cookie: a=1"]),
        ([b"__Host-session=x"], []),
        ([b"a=1; __Host-session=x; b=2"], [b"Cookie: a=1; b=2"]),
        ([b"__HOST-SESSION=x;  __host-device = y;b=2"], [b"Cookie: b=2"]),
        ([b"__Host-sessions=x"], [b"Cookie: __Host-sessions=x"]),
        ([b"a=1", b"__Host-device=y; b=2"], [b"Cookie: a=1; b=2"]),
        ([b"a=__Host-session=x"], [b"Cookie: a=__Host-session=x"]),
        ([b"__Host-session"], []),
    ],
)
def test_our_cookies_stay_here(cookies: list[bytes], left: list[bytes]) -> None:
    assert foreign_cookies(cookies) == left


async def test_the_authorization_stays_here_unless_the_route_forwards_it() -> None:
    request = b"GET /a HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer t\r\n\r\n"
    async with running() as rig:
        await rig.ask(request)
        rig.route(forward_authorization=True)
        await rig.ask(request)
        first, second = rig.upstream.requests
        assert first.values("authorization") == []
        assert second.values("authorization") == [b"Bearer t"]


@pytest.mark.parametrize("name", ["authorization", "cookie"])
async def test_a_credential_that_connection_names_was_for_this_hop_alone(name: str) -> None:
    request = (
        b"GET /a HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer t\r\nCookie: a=1\r\n"
        b"Connection: keep-alive, %b\r\n\r\n" % name.encode()
    )
    async with running() as rig:
        rig.route(forward_authorization=True)
        await rig.ask(request)
        (sent,) = rig.upstream.requests
        other = "cookie" if name == "authorization" else "authorization"
        assert (len(sent.values(name)), len(sent.values(other))) == (0, 1)


def test_forwarded_fields_are_rebuilt_for_strangers() -> None:
    assert forwarded_headers("2001:db8::1", "https", b"x:8443").split(b"\r\n") == [
        b"X-Forwarded-For: 2001:db8::1",
        b"X-Forwarded-Proto: https",
        b"X-Forwarded-Host: x:8443",
        b'Forwarded: for="[2001:db8::1]";host="x:8443";proto=https',
        b"Via: 1.1 authgate",
    ]


def test_a_trusted_proxy_is_added_to_what_it_says() -> None:
    said = [
        (b"X-Forwarded-For", b"192.0.2.1"),
        (b"x-forwarded-for", b"192.0.2.2"),
        (b"X-Forwarded-Host", b"outer"),
        (b"Via", b"1.1 edge"),
        (b"X-Forwarded-Port", b"443"),
    ]
    lines = appended_headers("10.0.0.1", "https", b"x", said).split(b"\r\n")
    assert b"X-Forwarded-For: 192.0.2.1, 192.0.2.2, 10.0.0.1" in lines
    assert b"X-Forwarded-Proto: https" in lines
    assert b"X-Forwarded-Host: outer" in lines
    assert b"Via: 1.1 edge, 1.1 authgate" in lines
    assert b"x-forwarded-port: 443" in lines


def test_a_field_of_ours_never_ends_a_line() -> None:
    for value in ("a\r\nb", "a\nb", "a\0", "a\x7f", "\u2028"):
        with pytest.raises(ValueError, match="control character"):
            field_line("X-A", value)
    with pytest.raises(ValueError, match="control character"):
        field_line("X A", "b")


# --- the request's parser beside llhttp ---


class _Protocol:
    connected = True

    def pause_reading(self) -> None: ...

    def resume_reading(self, resume_parser: bool = True) -> None: ...


fragments = st.sampled_from(
    [
        b"GET ", b"POST ", b"/a", b" HTTP/1.1", b" HTTP/1.0", b"\r\n", b"\n", b"\r", b" ", b"\t", b":",
        b"Host: x", b"Host: y", b"Content-Length: 5", b"Content-Length: 0", b"Content-Length:5 ", b"Transfer-Encoding: chunked",
        b"Transfer-Encoding: gzip, chunked", b"X: y", b"X : y", b"\0", b"\x0b", b"\x80", b"Connection: close", b",", b"5",
    ]
)  # fmt: skip


@given(st.lists(fragments, max_size=8))
@example([b"Host: x", b"\r\n", b"Content-Length: 5"])
@example([b"Host: x", b"\r\n", b"Transfer-Encoding: chunked"])
async def test_whatever_is_taken_here_llhttp_takes_too_and_frames_alike(parts: list[bytes]) -> None:
    block = b"POST /a HTTP/1.1\r\n" + b"".join(parts)
    if b"\r\n\r\n" in block:
        return
    try:
        ours = RequestHeadReader().read(block)
    except Malformed:
        return
    assert not isinstance(ours, Reason)
    parser = HttpRequestParser(_Protocol(), asyncio.get_running_loop(), 65536)  # type: ignore[arg-type]
    try:
        messages, _, _ = parser.feed_data(block + b"\r\n\r\n")
    except HttpProcessingError as error:
        raise AssertionError(f"llhttp refuses {block!r}") from error
    ((message, _),) = messages
    assert bool(message.chunked) is ours.chunked
    assert message.headers.get("Content-Length", "0") == str(ours.length or 0)
    assert tuple(ours) == message.raw_headers
    assert message.should_close is not ours.keeps_open


# --- the memory of lines ---

request_lines = st.sampled_from(
    [b"GET /a HTTP/1.1", b"GET /a HTTP/1.0", b"POST /b HTTP/1.1", b"get /a HTTP/1.1", b"Host: x"]
)
FIELD_LINES = [
        b"Host: x", b"Host: y", b"host:x", b"H-ost: x", b"HOST : x", b"",
        b"X: 1", b"x: 1", b"X-B: 2", b"X_B: 2", b"X-C: \xff", b"X: " + b"l" * 2_045, b"X: " + b"l" * 2_046,
        b"X-Auth-User-Id: root", b"X_Auth_User_Id: root", b"x.auth.roles: admin",
        b"Connection: close", b"Connection: keep-alive", b"connection: Keep-Alive", b"Connection: X, x_b",
        b"Connection: Host, X-Request-Id", b"Keep-Alive: 5", b"TE: trailers", b"Upgrade: websocket", b"Upgrade: h2c",
        b"Content-Length: 5", b"Content-Length: 0", b"Content_Length: 5", b"Content-Length: +5",
        b"Transfer-Encoding: chunked", b"Transfer.Encoding: chunked", b"Transfer-Encoding: x", b"Expect: 100-continue",
        b"Authorization: Bearer a", b"Authorization: Bearer b", b"Cookie: a=b", b"Cookie: c=d",
        b"X-Request-Id: one", b"X-Request-Id: two", b"traceparent: 0", b"Via: 1.1 x", b"X-Forwarded-For: ::1",
        b" folded", b"no colon", b": y", b"X: a\x00", b"X: a\nHost: z", b"X: a\rHost: z",
    ]  # fmt: skip
field_lines = st.sampled_from(FIELD_LINES)
heads = st.tuples(request_lines, st.lists(field_lines, max_size=10)).map(
    lambda parts: b"\r\n".join((parts[0], *parts[1]))
)


def meaning(reader: RequestHeadReader, block: bytes) -> object:
    """All that a head says, or how it is refused."""
    try:
        read = reader.read(block)
    except Malformed:
        return Malformed
    if isinstance(read, Reason):
        return read
    unlike = ("start", "connection", "plain", "trace")  # the last is not read of a head
    slots = [getattr(read, name) for name in slots_of(RequestHead) if name not in unlike]
    if read.plain:
        # What the rest of the common path takes its word for.
        assert (read.method, read.minor, read.target[0], read.keeps_open) == ("GET", 1, "/", True)
        assert not read.has_body
        assert not read.chunked
        asked = (read.length, read.expect, read.upgrade, read.cookie, read.forwarded)
        assert (*asked, read.traceparent) == (None,) * 6
    # To 1.1 a `keep-alive` says nothing, and may be told or not.
    named = set(read.connection or ()) - {b"keep-alive"}
    return read.start.text, slots, named, read.keeps_open


@given(st.lists(heads, max_size=12), heads, st.integers(1, 8))
@example(
    [b"GET /a HTTP/1.1\r\nX: 1\r\nX-B: 2\r\nHost: x"],
    b"GET /a HTTP/1.1\r\nX: 1\r\nX-C: 1\r\nX-B: 2\r\nHost: x\r\nX: 1",
    3,
)
@example(
    [b"GET /a HTTP/1.1\r\nHost: x\r\nConnection: keep-alive"],
    b"GET /a HTTP/1.0\r\nConnection: keep-alive",
    8,
)
def test_what_was_met_before_never_changes_what_a_head_means(
    before: list[bytes], block: bytes, room: int
) -> None:
    limits = HeadLimits(fields=9)
    reader = RequestHeadReader(limits)
    fresh = meaning(reader, block)
    assert meaning(reader, block) == fresh
    # So small that it is emptied in the midst of a head.
    forgetful = RequestHeadReader(limits, entries=room)
    for earlier in before:
        meaning(forgetful, earlier)
    assert meaning(forgetful, block) == fresh
    assert forgetful.remembered <= room


@pytest.mark.parametrize("line", [*FIELD_LINES, b"Authorization: keep-alive", b"A: keep-alive"])
@pytest.mark.parametrize("minor", [b"0", b"1"])
def test_a_head_means_the_same_the_second_time(line: bytes, minor: bytes) -> None:
    reader = RequestHeadReader()
    block = b"\r\n".join([b"GET /a HTTP/1." + minor, b"Host: keep-alive", line, b"X: y"])
    first = meaning(reader, block)
    assert meaning(reader, block) == first
    other = b"GET /a HTTP/1.1\r\nHost: keep-alive\r\nX: y"
    assert meaning(reader, other) == meaning(RequestHeadReader(), other)


def test_what_says_nothing_is_passed_over_the_third_time() -> None:
    reader = RequestHeadReader()
    assert not head(b"Connection: keep-alive", reader=reader).plain
    assert not head(b"Connection: keep-alive", reader=reader).plain
    assert head(b"Connection: keep-alive", reader=reader).plain


def test_the_lines_that_pass_are_forgotten_with_the_rest() -> None:
    reader = RequestHeadReader(entries=4)
    for number in range(40):
        for _ in range(2):
            head(b"X: %d" % number, reader=reader)
        assert len(reader._plain) <= len(reader._quiet) <= 4
        assert b"X: %d" % number in reader._plain


def test_a_head_in_whose_midst_the_memory_is_emptied_keeps_its_lines_in_order() -> None:
    reader = RequestHeadReader()
    old = [b"X-Old-%d: 1" % number for number in range(40)]
    for at in range(0, MEMO_ENTRIES - 5, 40):
        for _ in range(2):
            head(*(b"X-%d: 1" % number for number in range(at, at + 40)), reader=reader)
    for _ in range(2):
        head(*old, reader=reader)
    head(*(b"X-New-%d: 1" % number for number in range(40)), reader=reader)
    mixed = [line for number in range(40) for line in (old[number], b"X-New-%d: 1" % number)]
    assert head(*mixed, *old[:10], reader=reader).lines == [*mixed, *old[:10]]
    assert reader.remembered <= MEMO_ENTRIES
