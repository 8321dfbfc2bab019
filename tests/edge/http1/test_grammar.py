"""What a line of a head may hold, whatever its length: long ones are looked at in another way."""

from __future__ import annotations

import pytest

from gateway.edge.http1.grammar import FIELD_BYTES, Malformed, check_line


def _is_taken(line: bytes) -> bool:
    try:
        check_line(line)
    except Malformed:
        return False
    return True


@pytest.mark.parametrize("length", [1, 2, 127, 128, 129, 1_000, 8_192])
def test_one_byte_that_no_field_holds_refuses_a_line_of_any_length(length: int) -> None:
    for byte in range(256):
        for place in {0, length // 2, length - 1}:
            line = bytearray(b"a" * length)
            line[place] = byte
            assert _is_taken(bytes(line)) is (byte in FIELD_BYTES), (byte, place)


def test_control_characters_but_the_tab_are_none_of_a_field() -> None:
    controls = {*range(0x20), 0x7F} - {0x09}
    assert set(FIELD_BYTES) == set(range(256)) - controls
