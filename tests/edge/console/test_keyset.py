"""Pages of a long list."""

from __future__ import annotations

import pytest

from gateway.edge.console.keyset import cursor, listing, position


def test_a_page_ends_where_the_next_begins() -> None:
    rows = [(f"u{n}", n) for n in range(3)]
    page = listing(rows, key=lambda row: row, size=2)
    assert page.rows == rows[:2]
    assert position(page.next_after, str, int) == ["u1", 1]


def test_the_last_page_leads_no_further() -> None:
    assert listing([1, 2], key=lambda row: [row], size=2).next_after == ""
    assert listing([], key=lambda row: [row]).next_after == ""


STRANGE = (cursor("\x00", 1), cursor("\ud800", 1), cursor("a", 2**63), "A" * 3_000)
"""What a store could not be asked for, and what is too long."""


@pytest.mark.parametrize(
    "after", ["", "x", "!!!", "W10", cursor("a"), cursor(1, "a"), cursor(True, 1), *STRANGE]
)
def test_what_is_no_cursor_is_the_first_page(after: str) -> None:
    assert position(after, str, int) is None
