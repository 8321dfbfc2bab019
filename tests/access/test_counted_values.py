"""What callers write, as limits count it: whoever guesses has as many tries as there are names."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.access.counted_values import (
    LONGEST_FOLDED,
    counted_path,
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
        "v\u0640ic\u07fatim@example.com",
        "\u0902v\u0902\u0903ictim\u0e3a@example.com",
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
        ("acct-٧", "acct-7"),
        ("acct-७", "acct-7"),
        ("bøb", "bob"),
        ("ŁUKASZ", "lukasz"),
        ("Ærø", "aero"),
        ("đorđe", "dorde"),
        ("𐐀", "𐐨"),
        ("½ﬁ…", "1⁄2fi..."),
        ("\ufdfa" * 2, "صلى الله عليه وسلمصلى الله عليه وسلم"),
        ("سَلام", "سلام"),
        (UUID.upper(), UUID),
        ("{" + UUID + "}", UUID),
        (UUID.replace("-", ""), UUID),
        ("urn:uuid:" + UUID, UUID),
        ("9_61900_-8b86-d011-b42d-00c04fc964ff", "00961900-8b86-d011-b42d-00c04fc964ff"),
        ("0x961900-8b86-d011-b42d-00c04fc964ff", "00961900-8b86-d011-b42d-00c04fc964ff"),
        (" f9619ff-8b86-d011-b42d-00c04fc964ff", "0f9619ff-8b86-d011-b42d-00c04fc964ff"),
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
        "507f1f77bcf86cd799439011",
        "v2",
        "1.1",
        "1.10",
        "5-",
        "5+",
        "12345e67",
        "123450e66",
        "1e999",
        "bad-cafe-dad-bee-1",
        "1-2-3-4-5",
        "มี",
        "มุ",
        "มู",
        "กิน",
        "กัน",
        "कु",
        "के",
        "たろう",
        "タロウ",
        "a€b",
        "😀",
    ],
)
def test_what_names_another_is_another(text: str) -> None:
    assert counted_text(text) == text


@pytest.mark.parametrize("text", ["", " ", "\u200b", "\x00", "\u3000" * 300, "\u0301"])
def test_what_shows_nothing_is_nothing(text: str) -> None:
    assert counted_text(text) == ""


@pytest.mark.parametrize(
    "text",
    [
        "é" * (LONGEST_FOLDED + 1),
        "\ufdfa" * 100,
        "victim" + "\u200b" * 300,
        "0" * 300 + "7",
        "+" * 300 + "7",
    ],
)
def test_what_is_too_long_cannot_be_told(text: str) -> None:
    assert counted_text(text) is None


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
        ("True", "true"),
        (2**64, None),
    ],
)
def test_a_number_or_a_list_of_one_counts_as_its_text(value: Any, counted: str | None) -> None:
    assert counted_value(value) == counted


@pytest.mark.parametrize(
    "value", [True, ["A", "b"], [], {"$ne": "R"}, [{"$in": ["A"]}], [True], None, [None], b"A"]
)
def test_any_other_value_stays_as_it_is(value: Any) -> None:
    assert counted_value(value) == value


@pytest.mark.parametrize(
    ("path", "counted"),
    [
        ("/", "/"),
        ("/api/v1/orders/1234", "/api/v1/orders/1234"),
        ("/Unlock/Víctim /X ", "/unlock/victim/x"),
        ("/a/007/" + UUID.upper(), "/a/7/" + UUID),
        (
            "/files/2024-05/507f1f77bcf86cd799439011",
            "/files/2024-05/507f1f77bcf86cd799439011",
        ),
        ("/Ab" * 3_000 + "/07", "/ab" * 3_000 + "/07"),
        ("/é" * LONGEST_FOLDED, None),
        (
            "/codes/ann <Victim@example.com>/+1-415-555-2671",
            "/codes/victim@example.com/14155552671",
        ),
        ("/codes/" + "n" * LONGEST_FOLDED + " <victim@example.com>", None),
    ],
)
def test_a_path_is_the_same_in_each_spelling_of_its_segments(
    path: str, counted: str | None
) -> None:
    assert counted_path(path) == counted


@given(st.text(max_size=80))
def test_what_is_counted_is_counted_as_itself(text: str) -> None:
    counted = counted_text(text)
    if counted is not None:
        assert counted_text(counted) == counted


@given(st.text(st.characters(max_codepoint=0x2FF), max_size=40))
@example("0" * 30)
@example("0" * 29 + "7")
@example("a" * 30)
@example("a" * 25)
@example("ab-" * 10)
@example("507f1f77bcf86cd799439011")
def test_capitals_and_blanks_make_no_other_name(text: str) -> None:
    counted = counted_text(text)
    assert {counted_text(one) for one in (text.upper(), text.lower(), f" {text}\t")} == {counted}
