"""Names are one where a backend makes one of them: by their letters and digits."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.access.routing.body_fields import fields_named, reads_alike, wraps
from gateway.access.routing.name_letters import (
    letters_in_steps,
    letters_of,
    letters_of_each,
    plain,
    steps_of_each,
)
from tests.cpu_cost import cost_ratio


def test_no_letter_becomes_more_than_four() -> None:
    """Nor does a long text of them become many times as long."""
    grown = {c for c in map(chr, range(0x110000)) if len(plain(c)) > 4}
    assert not grown
    assert plain("\ufdfa") == "\ufdfa"


@pytest.mark.parametrize(
    ("name", "letters"),
    [
        ("owner", "owner"),
        ("owner_id", "ownerid"),
        ("-Owner--ID_", "ownerid"),
        (" owner\tid\n", "ownerid"),
        ("$owner.id!", "ownerid"),
        ("owner\x00id\x7f", "ownerid"),
        ("[owner]['id']", "ownerid"),
        ("owner2", "owner2"),
        # camelCase of lodash takes marks away, and some letters for others.
        ("\xf3wner_\xefd", "ownerid"),
        ("o\u0301\u0323wner", "owner"),
        ("\xd8wner_\u0131d", "ownerid"),
        ("\xe6\xc6\u0153\xdf\xde\xf0\u0111\u0127\u0142\u014b\u0167\u0138\u0149", "aeaeoessthddhlntkn"),
        ("\u017fame", "same"),
        ("\ufb01eld", "field"),
        ("\uff2f\uff37ner", "owner"),
        ("\U0001d428wner", "owner"),
        ("\u212aey", "key"),
        ("\u0130d", "id"),
        # Signs beyond ASCII, and what lodash takes for one.
        ("\ufeffowner\xa0id\u200b", "ownerid"),
        ("owner\xb2\xb5\xaa\xba", "owner"),
        ("owner\u0345", "owner"),
        ("owner\U0001f600", "owner"),
        ("owner\U000e0041", "owner"),
        # Of other alphabets all letters stay, in lower case.
        ("\u0418\u043c\u044f_\u0424", "\u0438\u043c\u044f\u0444"),
        ("\u540d\u524d-id", "\u540d\u524did"),
        ("\u3042\uac00\U00020000", "\u3042\u1100\u1161\U00020000"),
        ("\u03a3\u03c2", "\u03c3\u03c3"),
        ("", ""),
        ("_", ""),
        ("!\u0301", ""),
    ],
)  # fmt: skip
def test_of_a_name_its_letters_and_digits_are_left(name: str, letters: str) -> None:
    assert letters_of(name) == letters
    assert letters_in_steps(name).replace(".", "") == letters
    assert letters_of(plain(name)) == letters


def test_steps_are_read_each_for_itself() -> None:
    assert letters_in_steps("meta_a.\xd6wner-id.$x") == "metaa.ownerid.x"


def test_signs_of_ascii_stay_in_a_plain_text() -> None:
    assert plain("A[b].\x00_C") == "a[b].\x00_c"
    assert plain("\xc4[b].\x00_C\xa0\uff3b") == "a[b].\x00_c"


@given(
    st.text(st.characters(max_codepoint=0xFFFF)),
    st.text(st.sampled_from(" _-.!$'\u0301\xa0\ufeff"), max_size=3),
    st.integers(0, 9),
)
def test_no_case_mark_or_sign_makes_another_name(name: str, put: str, at: int) -> None:
    letters = letters_of(name)
    assert letters_of(letters) == letters
    assert letters_of(name[:at] + put + name[at:]) == letters
    if name.isascii():
        assert letters_of(name.upper()) == letters
        assert letters == "".join(filter(str.isalnum, name.lower()))
    assert letters_of(unicodedata.normalize("NFD", name)) == letters_of(
        unicodedata.normalize("NFC", name)
    )


@given(
    st.lists(st.text(st.characters(min_codepoint=1) | st.sampled_from("a._-[(\xe9")), min_size=1)
)
def test_letters_are_the_same_of_all_names_at_once(names: list[str]) -> None:
    assert letters_of_each(names) == [letters_of(name) for name in names]
    assert steps_of_each(names) == [letters_in_steps(name) for name in names]


@pytest.mark.parametrize(
    "names",
    [
        ["\xe9" * 20 + str(number) for number in range(1_400)],
        [chr(0x4E00 + number) + str(number) for number in range(6_000)],
        ["e\u0301" * 20 + str(number) for number in range(1_000)],
        ["e" + "\u0301\u0323" * 16_000],
        [chr(0x20000 + number) for number in range(8_000)],
        ["e" + "\u0f73" * 21_000],
        ["\ufdfa" * 21_000],
    ],
)
def test_names_beyond_ascii_take_a_time_that_grows_with_their_length(names: list[str]) -> None:
    """A run of marks would be put in order in a time that grows with its length, squared."""
    body = dict.fromkeys(names, 1)
    assert cost_ratio(lambda: reads_alike(body, fields_named(("team",)))) < 70


def test_a_name_is_taken_apart_once_however_many_fields_are_read() -> None:
    inner = {"\ufdfa" * 10 + str(number): 1 for number in range(2_000)}
    body, wrappers = {"user": inner, **inner}, {"user"}
    ten = [f"field_{number}" for number in range(10)]

    def once() -> object:
        return reads_alike(inner, fields_named(ten[:1]))

    assert cost_ratio(lambda: reads_alike(inner, fields_named(ten)), once) < 4
    assert cost_ratio(lambda: wraps(body, fields_named(ten), wrappers), once) < 4
