"""JSON that is read in one way or not at all."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.strict_json import loads

VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**64), 2**64) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=8,
)
BLANKS = st.text(alphabet=" \t\r\n", max_size=2)


def refused(raw: bytes, **how: Any) -> bool:
    try:
        loads(raw, **how)
    except ValueError:
        return True
    return False


@given(value=VALUES, before=BLANKS, after=BLANKS)
def test_a_value_is_read_with_blanks_around_it_and_without(
    value: Any, before: str, after: str
) -> None:
    assert loads(f"{before}{json.dumps(value)}{after}".encode()) == value


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"}",
        b"{}{}",
        b"{} {}",
        b"{}}",
        b"{{}}",
        b'{"a":1}x{"a":1}',
        b'{"a":1,"a":1}',
        b'{"a":{"b":1,"b":2}}',
        b'{"a":NaN}',
        b'{"a":-Infinity}',
        b'{"a":1e999}',
        b'{"a":"\xff"}',
        b"\xef\xbb\xbf{}",
        b"\x0b{}",
    ],
)
def test_what_two_readers_could_take_for_two_is_refused(raw: bytes) -> None:
    assert refused(raw)


def test_half_of_a_surrogate_pair_is_refused_where_it_must_be_encodable() -> None:
    raw = b'{"a":"\\ud800"}'
    assert loads(raw) == {"a": "\ud800"}
    assert refused(raw, encodable=True)


def test_what_is_deeper_than_asked_for_is_refused() -> None:
    assert loads(b'{"a":[[]]}', deepest=3) == {"a": [[]]}
    assert refused(b'{"a":[[[]]]}', deepest=3)
