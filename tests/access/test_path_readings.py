"""Every reading of a path that a route with `paths: files` takes, one by one."""

from __future__ import annotations

import pytest

from gateway.access.routing.path_readings import MOST_READINGS, MOST_SIGNS, other_readings


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


@pytest.mark.parametrize("path", ["/a%25252541", "/a%252525252541"])
def test_what_is_encoded_four_times_is_read_by_nobody(path: str) -> None:
    assert other_readings(path) is None
    assert other_readings("/a%252541") == [("a%41",), ("aA",)]
