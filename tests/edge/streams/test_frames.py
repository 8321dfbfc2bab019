"""Where WebSocket frames end, by their heads alone."""

from __future__ import annotations

import struct
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.edge.streams.frames import FrameReader, close_frame, ping_frame


def frame(payload: bytes, *, first: int = 0x82, masked: bool = False) -> bytes:
    size = len(payload)
    bit = 0x80 if masked else 0
    if size < 126:
        head = bytes((first, bit | size))
    elif size < 65_536:
        head = bytes((first, bit | 126)) + struct.pack(">H", size)
    else:
        head = bytes((first, bit | 127)) + struct.pack(">Q", size)
    return head + (b"mask" if masked else b"") + payload


SIZES = st.sampled_from((0, 1, 125, 126, 127, 65_535, 65_536))
FRAMES = st.lists(
    st.builds(lambda size, first, masked: frame(b"x" * size, first=first, masked=masked),
              SIZES, st.sampled_from((0x82, 0x01, 0xC1, 0x89)), st.booleans()),
    max_size=5,
)  # fmt: skip


@given(FRAMES, st.lists(st.integers(0, 70_000), max_size=6))
def test_frames_end_where_they_end_however_the_bytes_are_cut(
    frames: list[bytes], cuts: list[int]
) -> None:
    data = b"".join(frames)
    ends = {sum(map(len, frames[:n])) for n in range(len(frames) + 1)}
    places = sorted({0, len(data), *(cut for cut in cuts if cut <= len(data))})
    reader = FrameReader()
    for begin, end in pairwise(places):
        assert reader.feed(data[begin:end]) == data[begin:end]
        assert reader.between == (end in ends)


@pytest.mark.parametrize("masked", [False, True])
def test_a_frame_too_long_is_refused_by_its_head_alone(masked: bool) -> None:
    assert FrameReader(1_000).feed(frame(b"x" * 1_000, masked=masked))
    reader = FrameReader(1_000)
    assert reader.feed(frame(b"ab"))
    head = frame(b"x" * 1_001, masked=masked)[: 8 if masked else 4]
    assert reader.feed(frame(b"cd") + head) is None
    assert reader.between


def test_a_frame_that_claims_an_exabyte_is_too_long() -> None:
    assert FrameReader(1_048_576).feed(b"\x82\x7f" + b"\xff" * 8) is None


def test_a_close_frame_holds_its_code_and_reason() -> None:
    assert close_frame(1008, "gone") == b"\x88\x06\x03\xf0gone"


def test_a_close_frame_to_a_server_is_masked() -> None:
    made = close_frame(1008, "gone", masked=True)
    assert made[:2] == b"\x88\x86"
    assert bytes(byte ^ made[2 + i % 4] for i, byte in enumerate(made[6:])) == b"\x03\xf0gone"


def test_a_long_reason_is_cut_to_what_a_control_frame_may_hold() -> None:
    assert len(close_frame(1008, "x" * 500)) == 127


# --- answers to a Ping of ours ---

OURS = b"8 bytes."


def pong(payload: bytes, *, masked: bool = False) -> bytes:
    mask = b"\x01\x02\x03\x04" if masked else b""
    hidden = bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload)) if mask else payload
    return bytes((0x8A, (0x80 if masked else 0) | len(payload))) + mask + hidden


ANSWERS = st.builds(lambda masked: pong(OURS, masked=masked), st.booleans())
OTHERS = st.sampled_from(
    (
        frame(b"x" * 65_536),
        frame(b"half", first=0x01) + frame(b"", first=0x80),
        frame(OURS, first=0x89),
        frame(pong(OURS)),
        pong(b"theirs.."),
        pong(b""),
        pong(OURS + b"!"),
        pong(b"theirs..", masked=True),
        b"\xca\x08" + OURS,  # a reserved bit: not the frame that we asked for
    )
)


@given(st.lists(st.one_of(ANSWERS, OTHERS), max_size=6), st.lists(st.integers(0, 70_000)))
def test_answers_to_us_are_kept_back_and_all_else_passes_however_it_is_cut(
    frames: list[bytes], cuts: list[int]
) -> None:
    data = b"".join(frames)
    ours = (pong(OURS), pong(OURS, masked=True))
    places = sorted({0, len(data), *(cut for cut in cuts if cut <= len(data))})
    reader = FrameReader()
    reader.answer = OURS
    passed = [reader.feed(data[begin:end]) for begin, end in pairwise(places)]
    assert b"".join(part or b"" for part in passed) == b"".join(
        one for one in frames if one not in ours
    )
    assert reader.between


@given(st.lists(OTHERS, max_size=6), st.lists(st.integers(0, 70_000)))
def test_where_nobody_was_asked_every_pong_passes(frames: list[bytes], cuts: list[int]) -> None:
    data = b"".join([*frames, pong(OURS)])
    places = sorted({0, len(data), *(cut for cut in cuts if cut <= len(data))})
    reader = FrameReader()
    assert all(reader.feed(data[a:b]) == data[a:b] for a, b in pairwise(places))


def test_what_may_become_an_answer_leaves_the_border_open() -> None:
    reader = FrameReader()
    reader.answer = OURS
    assert reader.feed(frame(b"a") + pong(OURS)[:5]) == frame(b"a")
    assert reader.between
    assert reader.feed(pong(b"8 bytes!")[5:]) == pong(b"8 bytes!")


def test_a_frame_too_long_behind_an_answer_reads_nothing_of_both() -> None:
    reader = FrameReader(100)
    reader.answer = OURS
    assert reader.feed(pong(OURS)[:1]) == b""
    assert reader.feed(pong(OURS)[1:] + frame(b"x" * 101)) is None
    assert reader.between


def test_a_close_frame_is_noted_and_a_payload_that_looks_like_one_is_not() -> None:
    reader = FrameReader()
    reader.feed(frame(close_frame(1000, "")) + frame(b"x"))
    assert not reader.closed
    reader.feed(close_frame(1000, "")[:1])
    reader.feed(close_frame(1000, "")[1:])
    assert reader.closed


def test_a_ping_to_a_server_is_masked() -> None:
    assert ping_frame(OURS) == b"\x89\x08" + OURS
    made = ping_frame(OURS, masked=True)
    assert made[:2] == b"\x89\x88"
    assert bytes(byte ^ made[2 + i % 4] for i, byte in enumerate(made[6:])) == OURS
