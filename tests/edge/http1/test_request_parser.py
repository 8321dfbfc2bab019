"""The parser by itself: bytes in, events out, one state after the other."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.edge.http1.request_head import HeadLimits, RequestHead, RequestHeadReader
from gateway.edge.http1.request_parser import BODY_END, Event, RequestParser
from gateway.edge.http1.turns import HEAD_SHARE
from gateway.model import Reason

GET = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST /b HTTP/1.1\r\nHost: x\r\n"
SIZED = POST + b"Content-Length: 5\r\n\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"


def parser(limits: HeadLimits | None = None) -> RequestParser:
    return RequestParser(RequestHeadReader(limits))


def events(one: RequestParser, *pieces: bytes) -> list[Event]:
    """All that comes out, once each piece was fed."""
    came: list[Event] = []
    for piece in pieces:
        one.feed(piece)
        while (event := one.next_event()) is not None:
            came.append(event)
    return came


def said(came: list[Event]) -> list[object]:
    """A head by its target, a body whole."""
    out: list[object] = []
    for event in came:
        if isinstance(event, bytes) and out and isinstance(out[-1], bytes):
            out[-1] += event
        else:
            out.append(event.target if isinstance(event, RequestHead) else event)
    return out


def test_at_first_it_waits_for_a_head() -> None:
    one = parser()
    assert (one.cost, one.head_bytes, one.body_bytes, one.body_ended) == (0, 0, 0, False)
    assert one.next_event() is None
    assert (one.in_body, one.head_begun, one.unread, one.broken) == (False, False, 0, False)


def test_a_head_without_a_body_is_one_event_and_the_next_may_follow() -> None:
    one = parser()
    assert said(events(one, GET + GET.replace(b"/a", b"/c"))) == ["/a", "/c"]
    assert (one.in_body, one.unread) == (False, 0)


def test_part_of_a_head_is_held() -> None:
    one = parser()
    assert events(one, GET[:9]) == []
    assert (one.head_begun, one.unread) == (True, 9)
    assert said(events(one, GET[9:])) == ["/a"]
    assert not one.head_begun


def test_a_body_that_begins_with_its_head_is_the_body_alone() -> None:
    """Were what stands before it taken too, the upstream would be sent the head as contents."""
    head = POST + b"Content-Length: 500\r\n\r\n"
    one = parser()
    assert events(one, head + b"x" * 100)[1:] == [b"x" * 100]
    assert (one.body_bytes, one.unread, one.in_body) == (100, 0, True)
    assert events(one, b"y" * 400 + GET)[0] == b"y" * 400
    # The same where another request came before it.
    assert said(events(parser(), GET + head + b"x" * 100)) == ["/a", "/b", b"x" * 100]


@pytest.mark.parametrize(("data", "begun"), [(b"\r\n", False), (b"\r", True), (b"\r\nG", True)])
def test_an_empty_line_is_no_beginning_of_a_head(data: bytes, begun: bool) -> None:
    one = parser()
    assert events(one, data) == []
    assert one.head_begun is begun


def test_a_whole_head_is_taken_without_events() -> None:
    one = parser()
    head = one.whole_head(GET)
    assert head is not None
    assert head.target == "/a"
    assert one.whole_head(SIZED) is not None
    assert one.in_body
    assert said(events(one, b"hello")) == [b"hello", BODY_END]


@pytest.mark.parametrize(
    "data", [GET + GET, GET[:-1], GET + b"\r\n\r\n", b"GET /a HTTP/1.2\r\n\r\n"]
)
def test_what_is_not_one_whole_head_is_left_to_feed(data: bytes) -> None:
    one = parser()
    assert one.whole_head(data) is None
    assert (one.unread, one.broken, one.in_body) == (0, False, False)


@pytest.mark.parametrize("past", [0, 1])
def test_a_whole_head_within_the_limit_of_its_request_line_is_taken_at_once(past: int) -> None:
    one = parser(HeadLimits(line_bytes=len(GET) - 4 - past))
    assert (one.whole_head(GET) is None) is bool(past)


@pytest.mark.parametrize("before", [GET[:4], SIZED, b"\0"], ids=["a part", "a body", "a refusal"])
def test_no_whole_head_is_taken_in_another_state(before: bytes) -> None:
    one = parser()
    events(one, before)
    assert one.whole_head(GET) is None


def test_a_sized_body_comes_in_pieces_and_ends() -> None:
    one = parser()
    assert said(events(one, SIZED)) == ["/b"]
    assert (one.in_body, one.body_ended) == (True, False)
    one.feed(b"hel")
    assert one.next_event() == b"hel"
    one.feed(b"lo" + GET)
    assert one.next_event() == b"lo"
    assert one.body_ended
    assert one.next_event() is BODY_END
    assert not one.in_body
    assert one.body_bytes == 5
    assert said(events(one)) == []
    one.feed(b"")
    head = one.next_event()
    assert isinstance(head, RequestHead)


def test_a_chunked_body_comes_without_its_framing_and_trailers() -> None:
    one = parser()
    framed = b"3;a=b\r\nabc\r\n2\r\nde\r\n0\r\nX: y\r\n\r\n"
    assert said(events(one, CHUNKED + framed + GET)) == ["/b", b"abcde", BODY_END, "/a"]
    assert one.body_bytes == len(framed)


def test_a_piece_that_is_a_whole_read_is_not_copied() -> None:
    one = parser()
    events(one, POST + b"Content-Length: 100000\r\n\r\n")
    piece = b"x" * 50_000
    one.feed(piece)
    assert one.next_event() is piece


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"BROKEN\r\n\r\n", Reason.REQUEST_MALFORMED),
        (b"\x16\x03\x01", Reason.REQUEST_MALFORMED),
        (b"GET /" + b"a" * 9_000, Reason.TARGET_TOO_LONG),
        (b"GET /a HTTP/1.1\r\nX: " + b"a" * 17_000, Reason.HEADER_TOO_LARGE),
        (b"GET /a HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 100 + b"\r\n", Reason.HEADER_TOO_LARGE),
        (CHUNKED + b"x\r\n", Reason.REQUEST_MALFORMED),
    ],
)
def test_nothing_follows_a_refusal(data: bytes, reason: Reason) -> None:
    one = parser()
    came = events(one, data, GET)
    assert came[-1] is reason
    assert (one.broken, one.unread) == (True, 0)
    assert one.next_event() is None


def test_a_body_that_breaks_is_still_a_body() -> None:
    """Who answers it knows that nothing else has begun."""
    one = parser()
    events(one, CHUNKED, b"x\r\n")
    assert (one.broken, one.in_body) == (True, True)


def test_one_that_is_stopped_reads_nothing_more() -> None:
    one = parser()
    events(one, SIZED + b"he")
    one.stop()
    assert events(one, b"llo" + GET) == []
    assert (one.in_body, one.unread) == (True, 0)


def test_what_nobody_takes_waits_and_can_be_taken_over() -> None:
    one = parser()
    one.feed(GET + b"\x81\x05hello")
    assert isinstance(one.next_event(), RequestHead)
    assert one.unread == 7
    assert one.take_unread() == b"\x81\x05hello"
    assert one.unread == 0


def test_limits_are_those_of_its_reader() -> None:
    tight = HeadLimits(head_bytes=60, fields=2, line_bytes=20)
    assert said(events(parser(tight), GET)) == ["/a"]
    assert events(parser(tight), b"GET /aaaaaaaaaaaaaaaa HTTP/1.1\r\n\r\n") == [
        Reason.TARGET_TOO_LONG
    ]
    assert events(parser(tight), GET[:-2] + b"A: 1\r\nB: 2\r\n\r\n") == [Reason.HEADER_TOO_LARGE]


LINE = b"GET /" + b"a" * 6 + b" HTTP/1.1"
TIGHT = HeadLimits(head_bytes=60, fields=9, line_bytes=len(LINE))


@pytest.mark.parametrize("fields", [b"\r\nHost: x", b""], ids=["fields", "none"])
@pytest.mark.parametrize("past", [0, 1, 2])
def test_a_request_line_may_be_as_long_as_its_limit(past: int, fields: bytes) -> None:
    line = LINE.replace(b"a", b"a" * (past + 1), 1).replace(b"1.1", b"1.0")
    (event,) = events(parser(TIGHT), line + fields + b"\r\n\r\n")
    assert event is Reason.TARGET_TOO_LONG if past else isinstance(event, RequestHead)


def test_an_empty_line_before_it_is_not_of_the_request_line() -> None:
    assert said(events(parser(TIGHT), b"\r\n" + LINE + b"\r\nHost: x\r\n\r\n")) == ["/aaaaaa"]


@pytest.mark.parametrize("past", [0, 1])
def test_a_whole_head_may_be_as_long_as_its_limit(past: int) -> None:
    start = LINE + b"\r\nHost: x\r\nX: "
    data = start + b"x" * (TIGHT.head_bytes - len(start) - 4 + past) + b"\r\n\r\n"
    assert len(data) == TIGHT.head_bytes + past
    (event,) = events(parser(TIGHT), data)
    assert event is Reason.HEADER_TOO_LARGE if past else isinstance(event, RequestHead)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (LINE[:-9] + b"a" * 9, None),
        (LINE[:-9] + b"a" * 9 + b"\r", None),
        (LINE[:-9] + b"a" * 10, Reason.TARGET_TOO_LONG),
        (LINE + b"\r\nX: " + b"x" * (TIGHT.head_bytes - len(LINE) - 5), None),
        (LINE + b"\r\nX: " + b"x" * (TIGHT.head_bytes - len(LINE) - 4), Reason.HEADER_TOO_LARGE),
        (b"G", None),
        (b"X /a HTTP/1.1\r\n", None),
        (b"g", Reason.REQUEST_MALFORMED),
        (b"GET /a HTTP/1.2\r\n", Reason.REQUEST_MALFORMED),
        (LINE + b"\r\nX: y\n", Reason.REQUEST_MALFORMED),
        (LINE + b"\r\nX: \ry", Reason.REQUEST_MALFORMED),
        (LINE + b"\r\nX: y\r", None),
    ],
)
def test_part_of_a_head_is_refused_once_it_can_become_none(
    data: bytes, reason: Reason | None
) -> None:
    for before in (b"", b"\r\n"):
        one = parser(TIGHT)
        one.feed(before + data)
        assert one.next_event() is reason
        assert one.broken is (reason is not None)


def test_a_head_counts_more_the_longer_it_is() -> None:
    one = parser()
    long = GET[:-2] + b"X: " + b"x" * (128 - len(GET) + 2 - 3) + b"\r\n\r\n"
    one.feed(GET * 3 + long)
    costs = []
    while one.next_event() is not None:
        costs.append(one.cost)
    assert costs == [HEAD_SHARE] * 3 + [HEAD_SHARE + 2]
    assert one.cost == 0


def test_the_size_of_a_head_is_told() -> None:
    one = parser()
    events(one, GET)
    assert one.head_bytes == len(GET) - 4


def test_what_was_refused_or_is_not_whole_counts_nothing() -> None:
    one = parser()
    events(one, GET, CHUNKED)
    assert one.next_event() is None
    assert one.cost == 0


def test_no_more_chunks_are_taken_at_once_than_are_asked_for() -> None:
    one = parser()
    events(one, CHUNKED)
    one.feed(b"1\r\na\r\n1\r\nb\r\n1\r\nc\r\n")
    assert (one.next_event(most_chunks=2), one.cost) == (b"ab", 2)
    assert (one.next_event(most_chunks=2), one.cost) == (b"c", 1)
    assert (one.next_event(most_chunks=2), one.cost) == (None, 0)
    assert one.body_bytes == 18


def test_a_long_extension_takes_a_share_without_any_contents() -> None:
    one = parser()
    events(one, CHUNKED)
    one.feed(b"1;" + b"x" * 320 + b"\r\na\r\n")
    assert (one.next_event(most_chunks=4), one.cost) == (b"", 4)
    assert one.next_event(most_chunks=4) == b"a"


def test_part_of_a_chunk_line_is_no_event() -> None:
    one = parser()
    assert said(events(one, CHUNKED + b"3;")) == ["/b"]
    assert not one.body_ended
    assert said(events(one, b"a\r\nabc\r\n0\r\n")) == [b"abc"]
    one.feed(b"\r\n")
    assert one.next_event() is BODY_END


WHOLE = b"\r\nHost: x\r\n\r\n"
FULL = b"GET /" + b"a" * 13 + b" HTTP/1.1" + WHOLE
SMALL = HeadLimits(head_bytes=48, fields=2, line_bytes=27)
"""What a few fragments pass, so that what is too long is often malformed as well."""
FLAT = HeadLimits(head_bytes=48, fields=2, line_bytes=60)
"""A whole head may be no longer than this, whatever a line may be."""


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"get /" + b"a" * 30 + b" HTTP/1.1" + WHOLE, Reason.REQUEST_MALFORMED),
        (b"GET /\n" + b"a" * 30 + b" HTTP/1.1" + WHOLE, Reason.REQUEST_MALFORMED),
        (b"GET /" + b"a" * 22 + b"\r\r" + b"a" * 30 + WHOLE, Reason.TARGET_TOO_LONG),
        (b"GET /" + b"a" * 21 + b"\r\r" + b"a" * 30 + WHOLE, Reason.REQUEST_MALFORMED),
        (b"GET /" + b"a" * 30 + b"\n HTTP/1.1" + WHOLE, Reason.TARGET_TOO_LONG),
        (b"GET /a HTTP/1.2\r\nX: " + b"y" * 40 + WHOLE, Reason.REQUEST_MALFORMED),
        (b"GET /a HTTP/1.1\r\nX: \n" + b"y" * 40 + WHOLE, Reason.REQUEST_MALFORMED),
        (b"GET /a HTTP/1.1\r\nX: " + b"y" * 40 + b"\n" + WHOLE, Reason.HEADER_TOO_LARGE),
        (b"GET /a HTTP/1.1\r\nX: " + b"y" * 25 + b"\r\r\n\r\n", Reason.REQUEST_MALFORMED),
        (b"GET /a HTTP/1.1\r\nA:\r\nB:\r\nC:\n" + WHOLE, Reason.REQUEST_MALFORMED),
        (b"GET /a HTTP/1.1\r\nA:\r\nB:\r\nC:" + WHOLE, Reason.HEADER_TOO_LARGE),
        (b"GET /\0" + b"a" * 30 + b" HTTP/1.1" + WHOLE, Reason.TARGET_TOO_LONG),
    ],
)
def test_of_two_things_that_are_wrong_the_first_to_come_is_named_wherever_it_is_cut(
    data: bytes, reason: Reason
) -> None:
    assert events(parser(SMALL), data) == [reason]
    for before, cut in itertools.product((b"", b"\r\n"), range(len(data))):
        assert events(parser(SMALL), before + data[:cut], data[cut:]) == [reason]
    for step in (1, 2, 3):
        pieces = [data[at : at + step] for at in range(0, len(data), step)]
        assert events(parser(SMALL), *pieces) == [reason]


@pytest.mark.parametrize("size", [48, 49, 58, 62, 80])
def test_a_head_is_bounded_where_its_request_line_might_be_longer(size: int) -> None:
    data = b"GET /" + b"a" * (size - len(b"GET / HTTP/1.1" + WHOLE)) + b" HTTP/1.1" + WHOLE
    assert len(data) == size
    for cut in range(size):
        (event,) = events(parser(FLAT), data[:cut], data[cut:])
        assert isinstance(event, RequestHead) if size <= 48 else event is Reason.HEADER_TOO_LARGE
    assert (parser(FLAT).whole_head(data) is not None) is (size <= 48)


messages = st.sampled_from(
    [
        GET,
        b"\r\n" + GET,
        SIZED + b"GET /",
        CHUNKED + b"4;a=b\r\nGET \r\n0\r\nHost: y\r\n\r\n",
        POST + b"Content-Length: 0\r\n\r\n",
        b"BROKEN\r\n\r\n",
    ]
)
fragments = st.sampled_from(
    [
        GET,
        FULL,
        b"GET /",
        b" HTTP/1.1",
        b"\r\nHost: x",
        b"X: ",
        b"A:\r\n" * 3,
        b"a",
        b"a" * 20,
        b"\r\n",
        b"\r\n\r\n",
        b"\r",
        b"\n",
        b"\0",
    ]
)
"""Whatever may be too long, malformed or both."""


@given(
    st.lists(messages | fragments, max_size=9),
    st.lists(st.integers(0, 1 << 12), max_size=9),
    st.sampled_from([HeadLimits(), SMALL, FLAT]),
)
def test_the_same_events_come_out_however_the_bytes_are_cut(
    parts: list[bytes], cuts: list[int], limits: HeadLimits
) -> None:
    data = b"".join(parts)
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    pieces = [data[start:end] for start, end in itertools.pairwise(edges)]
    assert said(events(parser(limits), *pieces)) == said(events(parser(limits), data))
