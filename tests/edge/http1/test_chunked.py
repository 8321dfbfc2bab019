"""Chunks mean one thing however they are cut, or are refused."""

from __future__ import annotations

import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.edge.http1.chunked import MAX_CHUNK_LINE_BYTES, MAX_TRAILER_BYTES, ChunkReader
from gateway.edge.http1.grammar import Malformed


def fed(data: bytes, cuts: list[int]) -> tuple[bytes, list[bytes], bytes, bool] | None:
    """Content, trailers, what was left over, and whether it ended; None when malformed."""
    reader = ChunkReader()
    out: list[bytes] = []
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    left = b""
    try:
        for start, end in itertools.pairwise(edges):
            piece = data[start:end]
            taken = reader.feed(piece, out) if not reader.done else 0
            left += piece[taken:]
    except Malformed:
        return None
    return b"".join(out), reader.trailers, left, reader.done


chunk = st.binary(min_size=1, max_size=40).map(lambda data: b"%x\r\n%b\r\n" % (len(data), data))
extended = st.binary(min_size=1, max_size=9).map(
    lambda data: b'%X;a=b;c="d;\\"";e\r\n%b\r\n' % (len(data), data)
)
body = st.lists(chunk | extended, max_size=6).map(b"".join)


@given(body, st.binary(max_size=20), st.lists(st.integers(0, 1 << 16), max_size=30))
def test_chunks_mean_the_same_however_they_are_cut(
    chunks: bytes, rest: bytes, cuts: list[int]
) -> None:
    data = chunks + b"0\r\nX-Sum: 1\r\n\r\n" + rest
    whole = fed(data, [])
    assert whole is not None
    assert whole[3]
    assert whole[1] == [b"X-Sum: 1"]
    assert whole[2] == rest
    assert fed(data, cuts) == whole


@given(st.text('0123456789abcdefx;=" \t\r\n+-_g', max_size=12), st.lists(st.integers(0, 99)))
def test_any_bytes_are_judged_alike_however_they_are_cut(line: str, cuts: list[int]) -> None:
    data = line.encode() + b"\r\nabc\r\n0\r\n\r\n"
    assert fed(data, cuts) == fed(data, [])


@pytest.mark.parametrize("past", [0, 1])
def test_a_chunk_line_at_its_limit_is_judged_alike_wherever_it_is_cut(past: int) -> None:
    data = b"1;" + b"x" * (MAX_CHUNK_LINE_BYTES - 2 + past) + b"\r\na\r\n0\r\n\r\n"
    for cut in range(MAX_CHUNK_LINE_BYTES - 2, MAX_CHUNK_LINE_BYTES + 5):
        assert (fed(data, [cut]) is None) is bool(past)


@pytest.mark.parametrize("past", [0, 1])
def test_trailers_at_their_limit_are_judged_alike_wherever_they_are_cut(past: int) -> None:
    data = b"0\r\nX:" + b"x" * (MAX_TRAILER_BYTES - 4 + past) + b"\r\n\r\n"
    for cut in range(len(data) - 6, len(data)):
        assert (fed(data, [cut]) is None) is bool(past)


@given(st.text('0123456789abcdefx;=" \t+-_g', max_size=6))
def test_a_chunk_size_is_plain_hexadecimal(line: str) -> None:
    plain = re.fullmatch(r"0*3(;[^; =\"]+(=([^; =\"]+|\"[^\"]*\"))?)*", line)
    result = fed(line.encode() + b"\r\nabc\r\n0\r\n\r\n", [])
    if result is not None and result[0] == b"abc":
        assert re.fullmatch(r"0*3(;.*)?", line)
    if plain and "\t" not in line:
        assert result is not None


@pytest.mark.parametrize(
    "data",
    [
        b"3\r\nabcXX",
        b"3\r\nabc\n",
        b"3\nabc\r\n",
        b"3 \r\nabc\r\n",
        b"3;\r\nabc\r\n",
        b"3;a\nb\r\n",
        b'3;a="b\r\nabc\r\n',
        b"\r\n",
        b"-1\r\n",
        b"1" * 16 + b"\r\n",
        b"3;" + b"a" * 2000,
        b"0\r\nX\r\n\r\n",
        b"0\r\nX : y\r\n\r\n",
        b"0\r\n y\r\n\r\n",
        b"0\r\nX: \0\r\n\r\n",
        b"0\r\n" + b"X: yyyyyyyyyy\r\n" * 2000,
    ],
)
def test_a_broken_chunk_is_refused(data: bytes) -> None:
    assert fed(data, []) is None
    assert fed(data, list(range(len(data)))) is None


def test_a_trailer_may_hold_colons_in_its_value() -> None:
    assert fed(b"0\r\nX: a:b\r\n\r\n", []) == (b"", [b"X: a:b"], b"", True)


@pytest.mark.parametrize(
    ("before", "limit"),
    [
        (b"", MAX_CHUNK_LINE_BYTES),
        (b"0\r\n", MAX_TRAILER_BYTES),
        (b"0\r\nX: y\r\n", MAX_TRAILER_BYTES - 6),
    ],
)
def test_a_line_without_an_end_is_held_up_to_its_limit(before: bytes, limit: int) -> None:
    """And one byte more, which may be the first of its end."""
    reader = ChunkReader()
    reader.feed(before, [])
    assert reader.feed(b"1" * (limit + 1), []) == limit + 1
    with pytest.raises(Malformed):
        reader.feed(b"1", [])


def test_the_end_of_a_chunk_may_come_in_two_reads() -> None:
    reader = ChunkReader()
    reader.feed(b"1\r\na\r", [])
    with pytest.raises(Malformed):
        reader.feed(b"\r", [])
    again = ChunkReader()
    again.feed(b"1\r\na\r", [])
    assert again.feed(b"\n", []) == 1


@pytest.mark.parametrize(
    ("line_bytes", "taken"),
    [(64, b"a"), (63, b"a\r\n1\r\nb"), (32, b"a\r\n1\r\nb"), (31, b"a\r\n1\r\nb\r\n1\r\nc")],
)
def test_each_32_bytes_of_a_chunk_line_count_as_a_chunk(line_bytes: int, taken: bytes) -> None:
    line = b"1;" + b"x" * (line_bytes - 3) + b"\r\n"
    data = line + b"a\r\n1\r\nb\r\n1\r\nc\r\n1\r\nd\r\n"
    assert ChunkReader().feed(data, [], most=3) == len(line + taken)
