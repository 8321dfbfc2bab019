"""The pairs of a `Cookie` field that hold a word, and where each lies."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.edge.http1.cookie_pairs import pairs_with


def found(word: bytes, line: bytes) -> list[bytes]:
    return [line[begin:end] for begin, end in pairs_with(word, line)]


@pytest.mark.parametrize(
    ("line", "pairs"),
    [
        (b"", []),
        (b"a=1", []),
        (b"w=1", [b"w=1"]),
        (b"w", [b"w"]),
        (b" w=1 ;a=2", [b" w=1 "]),
        (b"a=1; w=2", [b" w=2"]),
        (b"a=1; w=2; b=3", [b" w=2"]),
        (b"w=1;w=2", [b"w=1", b"w=2"]),
        (b";w;", [b"w"]),
        (b"aw=ww; b; w", [b"aw=ww", b" w"]),
        (b"a=w;b=1;;c=w", [b"a=w", b"c=w"]),
    ],
)
def test_a_pair_is_what_lies_between_two_semicolons(line: bytes, pairs: list[bytes]) -> None:
    assert found(b"w", line) == pairs


@given(st.lists(st.text("ws= ", max_size=4)), st.sampled_from(["w", "ws", "s=", "w="]))
def test_each_pair_that_holds_the_word_is_found_once_and_in_order(
    pairs: list[str], word: str
) -> None:
    line = ";".join(pairs).encode()
    assert found(word.encode(), line) == [pair.encode() for pair in pairs if word in pair]
