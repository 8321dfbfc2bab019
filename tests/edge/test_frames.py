"""Where WebSocket frames end, by their heads alone."""

from __future__ import annotations

import struct
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.edge.frames import FrameReader, close_frame


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
        assert reader.feed(data[begin:end])
        assert reader.between == (end in ends)


@pytest.mark.parametrize("masked", [False, True])
def test_a_frame_too_long_is_refused_by_its_head_alone(masked: bool) -> None:
    assert FrameReader(1_000).feed(frame(b"x" * 1_000, masked=masked))
    reader = FrameReader(1_000)
    assert reader.feed(frame(b"ab"))
    assert not reader.feed(frame(b"cd") + frame(b"x" * 1_001, masked=masked)[: 8 if masked else 4])
    assert reader.between


def test_a_frame_that_claims_an_exabyte_is_too_long() -> None:
    assert not FrameReader(1_048_576).feed(b"\x82\x7f" + b"\xff" * 8)


def test_a_close_frame_holds_its_code_and_reason() -> None:
    assert close_frame(1008, "gone") == b"\x88\x06\x03\xf0gone"


def test_a_close_frame_to_a_server_is_masked() -> None:
    made = close_frame(1008, "gone", masked=True)
    assert made[:2] == b"\x88\x86"
    assert bytes(byte ^ made[2 + i % 4] for i, byte in enumerate(made[6:])) == b"\x03\xf0gone"


def test_a_long_reason_is_cut_to_what_a_control_frame_may_hold() -> None:
    assert len(close_frame(1008, "x" * 500)) == 127
