"""Every reading of a path that a route with `paths: files` takes, one by one."""

from __future__ import annotations

import pytest

from gateway.access.routing.path_readings import MOST_READINGS, other_readings
from gateway.access.routing.paths import MOST_SIGNS, canonical
from gateway.access.routing.reading_budget import MOST_LETTERS_READ, ReadingBudget
from gateway.access.routing.spellings import Spellings
from gateway.model import Reason


@pytest.mark.parametrize(
    ("path", "readings"),
    [
        ("/a", set()),
        ("/a;b", {("a",)}),
        # Some cut before they decode: an escaped slash behind a semicolon goes with it.
        ("/a;x%2Fb/c", {("a", "c"), ("a/b", "c"), ("a",)}),
        ("/a;b/c;d%2Fe", {("a", "c"), ("a", "c/e"), ("a",)}),
        # Some know no other semicolon than the one that came as it is.
        ("/a%3Bb;c", {("a;b",), ("a",)}),
        ("/a%3Bb;c/d", {("a;b", "d"), ("a;b",), ("a", "d"), ("a",)}),
        ("/a%3Bb/c", {("a", "c"), ("a",)}),
        ("/a%5Cb", {("a", "b")}),
        ("/a%2541", {("aA",)}),
        ("/a%25u4e00", {("a\u4e00",)}),
        ("/a%25U4e00", {("a\u4e00",)}),
        ("/a%25c3%25a9", {("aé",)}),
        ("/a%255Cb", {("a\\b",), ("a", "b")}),
    ],
)
def test_a_path_has_these_readings_besides_the_plain_one(
    path: str, readings: set[tuple[str, ...]]
) -> None:
    found = other_readings(path)
    assert found is not None
    assert set(found) == readings
    assert len(found) == len(readings)


def test_as_many_signs_are_undone_and_no_more() -> None:
    assert (MOST_SIGNS, MOST_READINGS) == (64, 16)
    assert other_readings("/a" + ";" * 64) == [("a",)]
    assert other_readings("/a" + ";" * 65) is None


@pytest.mark.parametrize("sign", [";", "%3B", "%3b", "%5C", "%5c", "%2541", "%25u0041", "%25U0041"])
def test_a_path_of_more_signs_is_refused_before_it_is_read(sign: str) -> None:
    assert not isinstance(canonical("/a" + sign * 64, files=True), Reason)
    assert canonical("/a" + sign * 65, files=True) is Reason.AMBIGUOUS_PATH


@pytest.mark.parametrize("signs", ["%25" * 65, "%20" * 65, "%25g%25u004" * 33])
def test_signs_that_are_none_of_files_may_be_more(signs: str) -> None:
    assert not isinstance(canonical("/a" + signs), Reason)


def test_the_letters_of_all_readings_have_one_budget() -> None:
    # Of `a;b`, the plain one and one more are read.
    budget = ReadingBudget()
    half = budget.left // 2 - 32
    whole = "/" + "x" * (half - 2) + ";b"
    assert other_readings(whole, budget) == [("x" * (half - 2),)]
    assert 0 <= budget.left <= 3
    assert other_readings(whole, budget) is None
    assert other_readings("/x" + whole[1:]) == [("x" * (half - 1),)]
    assert other_readings("/xx" + whole[1:]) is None


def test_letters_outside_ascii_count_twice() -> None:
    many = MOST_LETTERS_READ // 4 - 34
    assert other_readings("/" + "%C3%A9" * many + ";") is not None
    assert other_readings("/" + "%C3%A9" * (many + 34) + ";") is None


def test_what_is_compared_besides_counts_too() -> None:
    budget = ReadingBudget()
    assert budget.takes_spellings(Spellings([("a",)], []))
    assert budget.left == MOST_LETTERS_READ
    assert budget.takes_spellings(Spellings([("a",), ("b",)], [("c",)], 7))
    assert budget.left == MOST_LETTERS_READ - 7 - 2 * 32
    assert budget.takes_spellings(Spellings([("a",)], [], budget.left))
    assert not budget.takes_spellings(Spellings([("a",)], [], 1))


@pytest.mark.parametrize("path", ["/a%25252541", "/a%252525252541"])
def test_what_is_encoded_four_times_is_read_by_nobody(path: str) -> None:
    assert other_readings(path) is None
    assert other_readings("/a%252541") == [("a%41",), ("aA",)]
