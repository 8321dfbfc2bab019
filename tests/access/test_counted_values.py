"""What callers write, as limits count it: whoever guesses has as many tries as there are names."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.access.counted_values import (
    LONGEST_FOLDED,
    SEVERAL,
    TOO_LONG,
    counted_text,
    counted_value,
)

ADDRESS = "victim@example.com"
UUID = "6f9619ff-8b86-d011-b42d-00c04fc964ff"


@pytest.mark.parametrize(
    "text",
    [
        "VICTIM@EXAMPLE.COM",
        "Victim@Example.com",
        f"  {ADDRESS}",
        f"{ADDRESS}\t\r\n",
        f"{ADDRESS}\u00a0\u3000",
        f"{ADDRESS}\x00",
        f"\x1b{ADDRESS}",
        "vic\u200btim@exam\u00adple.com",
        "\ufeffvictim@example.com",
        "vic\u3164tim@example.com",
        "\u2800victim@example.com",
        "vi\ud800ctim@example.com",
        "ｖｉｃｔｉｍ＠example.com",
        "𝓿𝓲𝓬𝓽𝓲𝓶@example.com",
        "víctim@example.com",
        "vi\u0301ctim@example.com",
        "VİCTİM@example.com",
        "vıctım@example.com",
        " " * 20_000 + ADDRESS,
        ADDRESS.upper() + " " * 20_000,
    ],
)
def test_a_name_is_the_same_in_each_of_its_spellings(text: str) -> None:
    assert counted_text(text) == ADDRESS


@pytest.mark.parametrize(
    ("text", "counted"),
    [
        ("straße", "strasse"),
        ("STRASSE", "strasse"),
        ("a  b\t c", "a b c"),
        ("007", "7"),
        (" +7 ", "7"),
        ("7.00", "7"),
        ("70e-1", "7"),
        ("0x07", "7"),
        ("٧", "7"),
        ("7.50", "7.5"),
        (UUID.upper(), UUID),
        ("{" + UUID + "}", UUID),
        (UUID.replace("-", ""), UUID),
        ("urn:uuid:" + UUID, UUID),
    ],
)
def test_a_value_is_the_same_in_each_of_its_spellings(text: str, counted: str) -> None:
    assert counted_text(text) == counted
    assert counted_text(counted) == counted


@pytest.mark.parametrize(
    "text",
    [
        "victim+x@example.com",
        "vic.tim@example.com",
        "7abc",
        "acct-07",
        "1.2.3",
        "a,b",
        "ada",
        "bob@x",
        "/a/b",
        "7",
        "17",
        UUID,
        "the shop",
        "名前",
    ],
)
def test_what_names_another_is_another(text: str) -> None:
    assert counted_text(text) == text


@pytest.mark.parametrize("text", ["", " ", "\u200b", "\x00", "\u3000" * 300, "\u0301"])
def test_what_shows_nothing_is_nothing(text: str) -> None:
    assert counted_text(text) == ""


@pytest.mark.parametrize(
    "text",
    ["é" * (LONGEST_FOLDED + 1), "victim" + "\u200b" * 300, "0" * 300 + "7", "+" * 300 + "7"],
)
def test_what_is_too_long_to_be_folded_counts_as_one(text: str) -> None:
    assert counted_text(text) == TOO_LONG


def test_a_long_text_of_plain_letters_is_told_from_another() -> None:
    assert counted_text("T" * 60_000) == "t" * 60_000


@pytest.mark.parametrize(
    ("value", "counted"),
    [
        (7, "7"),
        (7.0, "7"),
        (7.5, "7.5"),
        ("07", "7"),
        ([7], "7"),
        ([["Victim"]], "victim"),
        (True, "true"),
        ("True", "true"),
        (["victim", "r1"], SEVERAL),
        (["victim", "r2"], SEVERAL),
        ([], SEVERAL),
        ({"$ne": "r1"}, SEVERAL),
        ([{"$in": ["victim"]}], SEVERAL),
        (None, None),
        ([None], None),
        (b"victim", None),
    ],
)
def test_a_value_counts_as_what_a_backend_may_find_by_it(value: Any, counted: str | None) -> None:
    assert counted_value(value) == counted


@given(st.text(max_size=80))
def test_what_is_counted_is_counted_as_itself(text: str) -> None:
    counted = counted_text(text)
    if counted != TOO_LONG:
        assert counted_text(counted) == counted


@given(st.text(st.characters(max_codepoint=0x2FF), max_size=40))
def test_capitals_and_blanks_make_no_other_name(text: str) -> None:
    counted = counted_text(text)
    assert {counted_text(one) for one in (text.upper(), text.lower(), f" {text}\t")} <= {
        counted,
        TOO_LONG,
    }
