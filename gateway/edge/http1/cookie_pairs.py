"""The pairs of a `Cookie` field, found by a word that stands in them (RFC 6265 section 4.2.1)."""

from __future__ import annotations

from collections.abc import Iterator


def pairs_with(word: bytes, line: bytes) -> Iterator[tuple[int, int]]:
    """Where each pair begins and ends that holds the word, the white space around it included.

    A field has room for 16,000 pairs, and whoever sends it need not be anybody: of those that do
    not hold the word none is looked at.
    """
    at = line.find(word)
    while at >= 0:
        end = line.find(b";", at)
        if end < 0:
            end = len(line)
        yield line.rfind(b";", 0, at) + 1, end
        at = line.find(word, end)
