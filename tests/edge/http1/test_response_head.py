"""The upstream's bytes, framed in one way or not at all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.edge.http1.grammar import Malformed
from gateway.edge.http1.response_head import (
    CHUNKED,
    COOKIE,
    CORS,
    LIMITS,
    NO_BODY,
    UNTIL_CLOSE,
    VIA,
    Head,
    ResponseHeadReader,
    body_length,
)
from tests.slots import slots_of


def read_head(block: bytes) -> Head:
    return ResponseHeadReader().read(block)


def read(text: bytes, *, is_head: bool = False) -> int:
    return body_length(read_head(text), is_head=is_head)


@pytest.mark.parametrize(
    "block",
    [
        b"HTTP/1.1 200",
        b"HTTP/1.1 200 ",
        b"HTTP/1.1 200 OK",
        b"HTTP/1.0 404 Not Found",
        b"HTTP/1.1 200 caf\xe9 \t!",
        b"HTTP/1.1 599 OK\r\nX: \r\nY:z\r\nZ: caf\xe9",
    ],
)
def test_a_good_head_is_read(block: bytes) -> None:
    assert read_head(block).status in (200, 404, 599)


@pytest.mark.parametrize(
    "block",
    [
        b"",
        b"HTTP/1.1",
        b"HTTP/1.1 20",
        b"HTTP/1.1 2000 OK",
        b"HTTP/1.1 600 OK",
        b"HTTP/1.1 099 OK",
        b"HTTP/1.1  200 OK",
        b"HTTP/1.1\t200 OK",
        b"HTTP/2.0 200 OK",
        b"HTTP/1.2 200 OK",
        b"http/1.1 200 OK",
        b"ICY 200 OK",
        b"\r\nHTTP/1.1 200 OK",
        b"HTTP/1.1 200 O\0K",
        b"HTTP/1.1 200 OK\nX: y",
        b"HTTP/1.1 200 OK\rX: y",
        b"HTTP/1.1 200 OK\r\nX: a\rb",
        b"HTTP/1.1 200 OK\r\nX: a\r\n b",
        b"HTTP/1.1 200 OK\r\n X: a",
        b"HTTP/1.1 200 OK\r\nX : a",
        b"HTTP/1.1 200 OK\r\n: a",
        b"HTTP/1.1 200 OK\r\nX",
        b"HTTP/1.1 200 OK\r\nServerx",
        b"HTTP/1.1 200 OK\r\nX(: a",
        b"HTTP/1.1 200 OK\r\nX\xe9: a",
        b"HTTP/1.1 200 OK\r\nX: a\0",
        b"HTTP/1.1 200 OK\r\nX: a\x7f",
        b"HTTP/1.1 200 OK\r\nX: a\x1b[31m",
        b"HTTP/1.1 200 OK" + b"\r\nX: y" * 256,
    ],
)
def test_a_broken_head_is_refused(block: bytes) -> None:
    reader = ResponseHeadReader()
    reader.read(b"HTTP/1.1 200 OK\r\nServer: x")  # a name that is known by now
    with pytest.raises(Malformed):
        reader.read(block)


@pytest.mark.parametrize(
    ("fields", "length"),
    [
        (b"", UNTIL_CLOSE),
        (b"\r\nContent-Length: 0", 0),
        (b"\r\ncontent-length:\t12 ", 12),
        (b"\r\nTransfer-Encoding: chunked", CHUNKED),
        (b"\r\nTRANSFER-ENCODING: Chunked", CHUNKED),
    ],
)
def test_a_body_is_framed_by_its_fields(fields: bytes, length: int) -> None:
    assert read(b"HTTP/1.1 200 OK" + fields) == length


@pytest.mark.parametrize(
    "fields",
    [
        b"\r\nContent-Length: 5\r\nContent-Length: 5",
        b"\r\nContent-Length: 5\r\nContent-Length: 6",
        b"\r\nContent-Length: 5, 5",
        b"\r\nContent-Length: +5",
        b"\r\nContent-Length: -5",
        b"\r\nContent-Length: 0x5",
        b"\r\nContent-Length: 1_0",
        b"\r\nContent-Length:",
        b"\r\nContent-Length: 5 5",
        b"\r\nContent-Length: 9223372036854775808",
        b"\r\nContent-Length: \xb2",
        b"\r\nContent-Length: 5\r\nTransfer-Encoding: chunked",
        b"\r\nTransfer-Encoding: gzip, chunked",
        b"\r\nTransfer-Encoding: chunked, identity",
        b"\r\nTransfer-Encoding: identity",
        b"\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        b"\r\nTransfer-Encoding:",
        b"\r\nTransfer-Encoding: chunked;q=1",
        b"\r\nTransfer-Encoding: chun\xe2\x84\xaaed",
    ],
)
def test_a_body_that_can_be_framed_in_two_ways_is_refused(fields: bytes) -> None:
    with pytest.raises(Malformed):
        read(b"HTTP/1.1 200 OK" + fields)
    # RFC 9112 section 6.3 frames no body here, but the fields are as wrong as before.
    with pytest.raises(Malformed):
        read(b"HTTP/1.1 304 Not Modified" + fields)


def test_a_coding_in_1_0_is_refused() -> None:
    with pytest.raises(Malformed):
        read(b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked")


@pytest.mark.parametrize("status", [100, 103, 204, 304])
def test_some_statuses_have_no_body(status: int) -> None:
    assert read(b"HTTP/1.1 %d X\r\nContent-Length: 5" % status) == NO_BODY


def test_an_answer_to_head_has_no_body() -> None:
    assert read(b"HTTP/1.1 200 OK\r\nContent-Length: 5", is_head=True) == NO_BODY


@pytest.mark.parametrize(
    ("block", "open_"),
    [
        (b"HTTP/1.1 200 OK", True),
        (b"HTTP/1.1 200 OK\r\nConnection: keep-alive", True),
        (b"HTTP/1.1 200 OK\r\nConnection: X, Close", False),
        (b"HTTP/1.0 200 OK\r\nConnection: keep-alive", False),
    ],
)
def test_a_connection_persists_as_the_answer_says(block: bytes, open_: bool) -> None:
    assert read_head(block).keeps_open is open_


# --- the memory of lines ---

status_lines = st.sampled_from(
    [b"HTTP/1.1 200 OK", b"HTTP/1.1 204 No", b"HTTP/1.0 200 OK", b"HTTP/1.1 200", b"HTTP/2 200 OK"]
)
ANSWER_LINES = [
        b"X: 1", b"x: 1", b"X: " + b"l" * 253, b"X: " + b"l" * 254, b"X-Watched: 1", b"x-watched:1",
        b"Content-Length: 5", b"content-length:5", b"Content-Length: 6", b"Content-Length: +5", b"Content_Length: 5",
        b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip", b"Connection: close", b"Connection: keep-alive",
        b"Connection: Keep-Alive, X", b"Keep-Alive: 5", b"Date: now", b"date: now", b"X-Request-Id: 1", b"Via: 1.1 x",
        b"Set-Cookie: __Host-session=1", b"Set-Cookie: a=b", b"RateLimit: 1", b"Access-Control-Allow-Origin: *",
        b"", b" folded", b"no colon", b"X : 1", b"X: a\x00", b"X: a\nY: b", b"X: a\rY: b",
    ]  # fmt: skip
answer_lines = st.sampled_from(ANSWER_LINES)
answers = st.tuples(status_lines, st.lists(answer_lines, max_size=8)).map(
    lambda parts: b"\r\n".join((parts[0], *parts[1]))
)


def meaning(reader: ResponseHeadReader, block: bytes) -> object:
    """All that a head says; None for one that is refused."""
    try:
        head = reader.read(block)
    except Malformed:
        return None
    return [getattr(head, name) for name in slots_of(Head) if name != "reader"]


@given(st.lists(answers, max_size=12), answers, st.integers(1, 8))
def test_what_was_met_before_never_changes_what_an_answer_means(
    before: list[bytes], block: bytes, room: int
) -> None:
    reader = ResponseHeadReader()
    # So small that it is emptied in the midst of a head.
    forgetful = ResponseHeadReader(lines=room, statuses=room)
    for one in (reader, forgetful):
        one.watch([b"x-watched"])
    fresh = meaning(reader, block)
    assert meaning(reader, block) == fresh
    for earlier in before:
        meaning(forgetful, earlier)
    assert meaning(forgetful, block) == fresh
    assert forgetful.remembered <= room


@pytest.mark.parametrize("line", ANSWER_LINES)
@pytest.mark.parametrize("status", [b"HTTP/1.1 200 OK", b"HTTP/1.0 200 OK"])
def test_an_answer_means_the_same_the_second_time(line: bytes, status: bytes) -> None:
    reader = ResponseHeadReader()
    block = b"\r\n".join([status, b"X: y", line])
    first = meaning(reader, block)
    assert meaning(reader, block) == first


def test_what_an_answer_says_is_told_line_by_line() -> None:
    """`_KINDS` says what each is; `Head` which of them is removed, and which is looked at."""
    head = read_head(
        b"HTTP/1.0 201 Made\r\nX: y\r\nSet-Cookie:\ta=XbX \r\nConnection: A, Keep-Alive\r\nvia: 1.1 x\r\n"
        b"Keep-Alive: 5\r\nDATE: now\r\nRateLimit: 1\r\nAccess-Control-Max-Age: 5\r\nContent-Length: 7"
    )
    assert (head.start, head.status, head.minor) == (b"HTTP/1.1 201 Made", 201, 0)
    assert (head.length, head.chunked, head.keeps_open, head.dated) == (7, False, False, True)
    assert head.connection == [b"a", b"keep-alive"]
    assert head.removed == [b"Connection: A, Keep-Alive", b"Keep-Alive: 5"]
    assert head.special == [
        (b"Set-Cookie:\ta=XbX ", (COOKIE, b"set-cookie", b"a=XbX")),
        (b"via: 1.1 x", (VIA, b"via", b"1.1 x")),
        (b"RateLimit: 1", (LIMITS, b"ratelimit", b"1")),
        (b"Access-Control-Max-Age: 5", (CORS, b"access-control-max-age", b"5")),
    ]
    assert len(head.fields) == 9


def test_an_answer_that_says_little_has_nothing_to_look_at() -> None:
    head = read_head(b"HTTP/1.1 200 OK\r\nX: y\r\nConnection: keep-alive")
    assert (head.start, head.fields) == (
        b"HTTP/1.1 200 OK",
        [b"X: y", b"Connection: keep-alive"],
    )
    assert (head.length, head.chunked, head.keeps_open, head.dated) == (None, False, True, False)
    assert (head.connection, head.special) == (None, None)
    assert head.removed == [b"Connection: keep-alive"]


def test_a_status_line_is_told_in_the_form_of_1_1() -> None:
    assert read_head(b"HTTP/1.1 200").start == b"HTTP/1.1 200 "
    assert read_head(b"HTTP/1.0 404 Not Found").start == b"HTTP/1.1 404 Not Found"


@pytest.mark.parametrize(
    ("line", "dated"),
    [(b"Date: now", True), (b"date: now", True), (b"X-Date: now", False), (b"X: Date: now", False)],
)
def test_an_answer_with_a_date_is_told_from_one_without(line: bytes, dated: bool) -> None:
    assert read_head(b"HTTP/1.1 200 OK\r\nA: b\r\n" + line).dated is dated


def test_every_connection_line_counts() -> None:
    one = read_head(
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nConnection: x\r\nConnection: keep-alive"
    )
    assert one.keeps_open is False
    assert set(one.connection or ()) == {b"close", b"x"}


@pytest.mark.parametrize(
    ("value", "bound"),
    [
        (b"NTLM", True),
        (b"Basic realm=x, Negotiate", True),
        (b"negotiate abc=", True),
        (b"NTLMv3", False),
        (b"Basic realm=ntlm", False),
    ],
)
def test_an_answer_that_signs_the_connection_in_ends_it(value: bytes, bound: bool) -> None:
    one = read_head(b"HTTP/1.1 401 No\r\nWWW-Authenticate: " + value)
    assert one.keeps_open is (not bound)
    other = read_head(b"HTTP/1.1 401 No\r\nX-Authenticate: " + value)
    assert other.keeps_open


@pytest.mark.parametrize("fields", [255, 256])
def test_an_answer_has_at_most_255_fields(fields: int) -> None:
    """The status line counts as one of 256."""
    block = b"HTTP/1.1 200 OK" + b"\r\nX: y" * fields
    if fields < 256:
        assert len(read_head(block).fields) == fields
    else:
        with pytest.raises(Malformed):
            read_head(block)


@pytest.mark.parametrize(("digits", "good"), [(18, True), (19, False)])
def test_a_length_has_at_most_18_digits(digits: int, good: bool) -> None:
    block = b"HTTP/1.1 200 OK\r\nContent-Length: " + b"1" * digits
    if good:
        assert read_head(block).length == int("1" * digits)
    else:
        with pytest.raises(Malformed):
            read_head(block)


@pytest.mark.parametrize(("length", "kept"), [(256, 1), (257, 0)])
@pytest.mark.parametrize("name", [b"X", b"Via"])
def test_a_longer_line_of_an_answer_is_not_remembered(name: bytes, length: int, kept: int) -> None:
    reader = ResponseHeadReader()
    line = name + b": " + b"x" * (length - len(name) - 2)
    for _ in range(2):
        reader.read(b"HTTP/1.1 200 OK\r\n" + line)
    assert len(reader._plain) + len(reader._lines) == kept


def test_what_is_rendered_for_blocks_is_kept_for_a_thousand_of_them() -> None:
    rendered = ResponseHeadReader().rendered
    for number in range(1_000):
        rendered.keep(number, b"")
    assert len(rendered) == 1_000
    rendered.keep(1_000, b"")
    assert len(rendered) == 1


def test_answers_that_are_alike_share_what_was_read() -> None:
    reader = ResponseHeadReader()
    block = b"HTTP/1.1 200 Quite fine\r\nVia: 1.1 somebody"
    _, first, second = reader.read(block), reader.read(block), reader.read(block)
    assert second.start is first.start
    assert first.special is not None
    assert second.special is not None
    assert second.special == first.special
    # The compiled build makes the tuple anew, and nothing of what it holds.
    assert second.special[0][1][2] is first.special[0][1][2]
    assert first.reader is reader


def test_a_name_that_is_watched_later_is_found_in_lines_that_were_met_before() -> None:
    reader = ResponseHeadReader()
    block = b"HTTP/1.1 200 OK\r\nX-Watched-Late: 1"
    for _ in range(2):
        assert reader.read(block).special is None
    reader.watch([b"x-watched-late"])
    special = reader.read(block).special
    assert special is not None
    assert [line for line, _ in special] == [b"X-Watched-Late: 1"]


def test_to_watch_again_what_is_watched_forgets_nothing() -> None:
    reader = ResponseHeadReader()
    reader.watch([b"x-watched"])
    for _ in range(2):
        reader.read(b"HTTP/1.1 200 OK\r\nX: 1\r\nY: 2")
    reader.watch([b"x-watched"])
    reader.watch([b"via"])
    assert reader.remembered == 2
