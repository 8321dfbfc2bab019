"""What the fields of a request say, one by one and together; how they travel is in
test_request_head.py."""

from __future__ import annotations

import pytest

from gateway.edge.http1.grammar import Malformed
from gateway.edge.http1.request_head import (
    DROP,
    FORWARDED,
    HOST,
    PASS,
    TAKEN,
    HeadLimits,
    RequestHead,
    RequestHeadReader,
    classify,
)
from gateway.model import Reason


def head(*lines: bytes, start: bytes = b"GET /a HTTP/1.1", host: bytes = b"Host: x") -> RequestHead:
    read = RequestHeadReader().read(b"\r\n".join([start, host, *lines]))
    assert isinstance(read, RequestHead)
    return read


def test_a_plain_head_says_nothing_more() -> None:
    one = head(b"X: y")
    assert (one.method, one.target, one.minor, one.host) == ("GET", "/a", 1, b"x")
    assert (one.start.text, one.fields) == (b"GET /a HTTP/1.1", [b"Host: x", b"X: y"])
    assert one.lines == [b"X: y"]
    assert one.plain is True
    assert (one.length, one.chunked, one.has_body) == (None, False, False)
    said = (one.authorization, one.cookie, one.request_id, one.traceparent, one.connection)
    assert said == (None,) * 5
    assert (one.expect, one.upgrade, one.forwarded, one.taken) == (None,) * 4


@pytest.mark.parametrize(
    ("start", "plain"),
    [
        (b"GET / HTTP/1.1", True),
        (b"GET / HTTP/1.0", False),
        (b"HEAD / HTTP/1.1", False),
        (b"POST / HTTP/1.1", False),
        (b"GET * HTTP/1.1", False),
        (b"GET http://x/ HTTP/1.1", False),
    ],
)
def test_a_request_line_that_can_be_sent_on_as_it_is_is_plain(start: bytes, plain: bool) -> None:
    one = head(start=start)
    assert (one.plain, one.start.plain) == (plain, plain)


@pytest.mark.parametrize(
    ("field", "plain"),
    [
        (b"X: y", True),
        (b"Authorization: Bearer t", True),
        (b"X-Request-Id: i", True),
        (b"Connection: close", False),
        (b"Cookie: a=b", False),
        (b"Content-Length: 0", False),
        (b"Expect: 100-continue", False),
        (b"Upgrade: websocket", False),
        (b"traceparent: 0", False),
        (b"Via: 1.1 x", False),
    ],
)
def test_a_head_with_a_field_that_must_be_asked_for_is_not_plain(field: bytes, plain: bool) -> None:
    assert head(field).plain is plain


@pytest.mark.parametrize(
    "lines",
    [
        (b"Host: x",),
        (b"Host: y",),
        (b"Content-Length: 5", b"Content-Length: 5"),
        (b"Content-Length: 5, 5",),
        (b"Content-Length: +5",),
        (b"Content-Length: 1_0",),
        (b"Content-Length: ",),
        (b"Content-Length: \xb2",),
        (b"Content-Length: " + b"1" * 19,),
        (b"Transfer-Encoding: gzip",),
        (b"Transfer-Encoding: gzip, chunked",),
        (b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"),
        (b"Transfer-Encoding: chunked", b"Content-Length: 5"),
        (b"Content-Length: 0", b"Transfer-Encoding: chunked"),
        (b"X",),
        (b"X : y",),
        (b" X: y",),
        (b": y",),
        (b"X: a\x00",),
        (b"X: a\x7f",),
    ],
)
def test_what_another_reader_could_frame_differently_is_refused(lines: tuple[bytes, ...]) -> None:
    with pytest.raises(Malformed):
        head(*lines)


def test_a_coding_in_1_0_is_refused() -> None:
    with pytest.raises(Malformed):
        head(b"Transfer-Encoding: chunked", start=b"POST /a HTTP/1.0")


def test_only_1_0_may_leave_the_host_out() -> None:
    read = RequestHeadReader().read(b"GET /a HTTP/1.0\r\nX: y")
    assert isinstance(read, RequestHead)
    assert (read.host, read.minor) == (None, 0)
    with pytest.raises(Malformed):
        RequestHeadReader().read(b"GET /a HTTP/1.1\r\nX: y")


@pytest.mark.parametrize(
    ("line", "framing"),
    [
        (b"Content-Length: 0", (0, False, False)),
        (b"Content-Length: 5", (5, False, True)),
        (b"content-length:\t" + b"1" * 18 + b" ", (111_111_111_111_111_111, False, True)),
        (b"Transfer-Encoding: chunked", (None, True, True)),
        (b"transfer-encoding: CHUNKED", (None, True, True)),
    ],
)
def test_a_body_is_framed_by_its_fields(
    line: bytes, framing: tuple[int | None, bool, bool]
) -> None:
    one = head(line)
    assert (one.length, one.chunked, one.has_body) == framing
    assert one.lines == []


def test_every_credential_that_came_is_told_in_order() -> None:
    one = head(b"Authorization: a", b"Cookie: c=1", b"authorization: b", b"cookie: d=2")
    assert (one.authorization, one.cookie) == ([b"a", b"b"], [b"c=1", b"d=2"])
    assert head(b"Authorization: a").authorization == [b"a"]


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ((), None),
        ((b"X-Request-Id: one",), b"one"),
        ((b"X-Request-Id: one", b"X-Request-Id: one"), b""),
        ((b"X-Request-Id: one", b"X-Request-Id: two", b"X-Request-Id: three"), b""),
    ],
)
def test_two_names_of_a_request_say_nothing(lines: tuple[bytes, ...], said: bytes | None) -> None:
    assert head(*lines).request_id == said


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ((b"traceparent: one",), b"one"),
        ((b"traceparent: one", b"traceparent: two"), b""),
        ((b"traceparent: one", b"traceparent: two", b"traceparent: three"), b""),
    ],
)
def test_two_traces_say_nothing(lines: tuple[bytes, ...], said: bytes) -> None:
    assert head(*lines).traceparent == said


def test_what_proxies_said_is_told_with_its_name_as_it_came() -> None:
    one = head(b"Via: 1.1 x", b"X-Forwarded-For: ::1", b"forwarded: for=_a:b")
    assert one.forwarded == [
        (b"Via", b"1.1 x"),
        (b"X-Forwarded-For", b"::1"),
        (b"forwarded", b"for=_a:b"),
    ]
    assert one.lines == []


def test_what_only_some_routes_keep_is_told_as_whole_lines() -> None:
    one = head(b"X-HTTP-Method-Override: PUT", b"x-method-override: a:b")
    assert one.taken == [b"X-HTTP-Method-Override: PUT", b"x-method-override: a:b"]
    assert one.lines == []


def test_what_is_expected_and_upgraded_to_is_told() -> None:
    one = head(b"Expect: 100-Continue", b"Upgrade: websocket", b"Content-Length: 1")
    assert (one.expect, one.upgrade) == (b"100-Continue", b"websocket")
    assert one.expects_continue is True
    assert head(b"Upgrade: a", b"Upgrade: b").upgrade == b"a, b"
    assert head(b"X: y").expects_continue is False


@pytest.mark.parametrize(
    ("lines", "start"),
    [
        ((b"Expect: 100-continue",), b"POST /a HTTP/1.1"),
        ((b"Expect: 100-continue", b"Content-Length: 0"), b"POST /a HTTP/1.1"),
        ((b"Expect: 100-continue", b"Content-Length: 1"), b"POST /a HTTP/1.0"),
        ((b"Expect: 200-ok", b"Content-Length: 1"), b"POST /a HTTP/1.1"),
        ((b"Content-Length: 1",), b"POST /a HTTP/1.1"),
    ],
)
def test_without_a_body_to_wait_for_nothing_is_expected(
    lines: tuple[bytes, ...], start: bytes
) -> None:
    assert head(*lines, start=start).expects_continue is False


@pytest.mark.parametrize(
    ("lines", "minor", "open_"),
    [
        ((), b"1", True),
        ((), b"0", False),
        ((b"Connection: keep-alive",), b"0", True),
        ((b"Connection: Keep-Alive, x",), b"0", True),
        ((b"Connection: x",), b"0", False),
        ((b"Connection: x",), b"1", True),
        ((b"Connection: x, CLOSE",), b"1", False),
        ((b"Connection: keep-alive", b"Connection: close"), b"1", False),
        ((b"Connection: close", b"Connection: keep-alive"), b"0", False),
    ],
)
def test_a_connection_persists_as_the_request_says(
    lines: tuple[bytes, ...], minor: bytes, open_: bool
) -> None:
    assert head(*lines, start=b"GET /a HTTP/1." + minor).keeps_open is open_


def test_a_list_is_split_at_commas_and_lowered() -> None:
    one = head(b"Connection: X-A ,\tclose,, XbX")
    assert one.connection == [b"x-a", b"close", b"", b"xbx"]
    more = head(b"Connection: a", b"Connection: b")
    assert set(more.connection or ()) == {b"a", b"b"}


def test_a_field_that_a_second_connection_line_names_does_not_travel() -> None:
    one = head(b"A: 1:2", b"B: 2", b"C: 3", b"Connection: a", b"Connection: b")
    assert one.lines == [b"C: 3"]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        (b"X", PASS),
        (b"Host", HOST),
        (b"hOST", HOST),
        (b"X-Auth-Anything", DROP),
        (b"x_auth_anything", DROP),
        (b"X-Authentic", PASS),
        (b"X-Forwarded-Anything", FORWARDED),
        (b"x_forwarded_for", DROP),
        (b"X.Forwarded.For", DROP),
        (b"X-Forwarded", DROP),
        (b"Content_Length", DROP),
        (b"X-HTTP-Method-Override", TAKEN),
        (b"X_HTTP_Method_Override", DROP),
        (b"SCRIPT_NAME", DROP),
        (b"Script-Name", DROP),
    ],
)
def test_any_spelling_but_the_plain_one_of_a_special_name_is_dropped(
    name: bytes, kind: int
) -> None:
    assert classify(name) == kind


def test_to_iterate_a_head_gives_every_field_as_it_came() -> None:
    one = head(b"X-Auth-Roles: root", b"Y:\t XaX:b \t", b"Z:")
    assert list(one) == [
        (b"Host", b"x"),
        (b"X-Auth-Roles", b"root"),
        (b"Y", b"XaX:b"),
        (b"Z", b""),
    ]


@pytest.mark.parametrize("fields", [2, 3])
def test_no_more_fields_are_read_than_the_limit(fields: int) -> None:
    reader = RequestHeadReader(HeadLimits(fields=2))
    read = reader.read(b"GET /a HTTP/1.1\r\nHost: x" + b"\r\nX: y" * (fields - 1))
    assert read is Reason.HEADER_TOO_LARGE if fields > 2 else isinstance(read, RequestHead)


@pytest.mark.parametrize(
    ("lines", "remembered"),
    [
        ([b"X: " + b"y" * 2_045], 3),
        ([b"X: " + b"y" * 2_046], 2),
        ([b"Cookie: a=b"], 2),
        ([b"X-Request-Id: a", b"X-Request-Id: b"], 2),
    ],
)
def test_long_lines_and_those_that_differ_each_time_are_not_remembered(
    lines: list[bytes], remembered: int
) -> None:
    """By name they are: so many names of these heads."""
    reader = RequestHeadReader()
    for _ in range(2):
        reader.read(b"\r\n".join([b"GET /a HTTP/1.1", b"Host: x", b"A: b", b"C: d", *lines]))
    assert len(reader._quiet) == remembered


def test_what_comes_once_is_not_remembered() -> None:
    reader = RequestHeadReader()
    for number in range(100):
        reader.read(b"GET /%d HTTP/1.1\r\nHost: %d\r\nX: %d" % (number, number, number))
    assert not reader._starts
    assert not reader._lines
    assert not reader._quiet


@pytest.mark.parametrize(("length", "remembered"), [(256, 1), (257, 0)])
def test_a_long_request_line_is_not_remembered(length: int, remembered: int) -> None:
    reader = RequestHeadReader()
    line = b"GET /" + b"a" * (length - 14) + b" HTTP/1.1"
    assert len(line) == length
    for _ in range(2):
        reader.read(line + b"\r\nHost: x")
    assert len(reader._starts) == remembered


def test_requests_that_have_it_share_a_request_line_and_values() -> None:
    reader = RequestHeadReader()
    block = b"GET /a HTTP/1.1\r\nHost: host.example"
    _, first, second = reader.read(block), reader.read(block), reader.read(block)
    assert isinstance(first, RequestHead)
    assert isinstance(second, RequestHead)
    assert second.start is first.start
    assert second.host is first.host
