"""Telephone numbers, as limits count them: by their digits, or by the caller where no more than some
read this number in a text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.access.counted_values import (
    LONGEST_FOLDED,
    counted_path,
    counted_text,
    counted_value,
)
from tests.cpu_cost import cost_ratio

NUMBER = "14155552671"


@pytest.mark.parametrize(
    "text",
    [
        NUMBER,
        "+14155552671",
        "0014155552671",
        "00 1 415 555 2671",
        "+1-415-555-2671",
        "+1-4-1-5-5-5-5-2-6-7-1",
        "+1 (415) 555.2671",
        "+1/415/555/2671",
        "(1) 415 555-2671",
        "+1‐415–555−2671",
        "＋１ ４１５ ５５５ ２６７１",
        "+١٤١٥٥٥٥٢٦٧١",
        "tel:+1-415-555-2671",
        "tel:+1-415-555-2671;ext=7",
        "whatsapp:+14155552671",
        "+1 415 555 2671 ext. 7",
        "+1 415 555 2671 x7 ",
        "+1 415 555 2671 / x7",
        "+1 415 555 2671 extension 12345678901234567890",
        "+1 415 555 2671 extensión 7",
        "+1 415 555 2671 доб. 7",
        "+1\u00a0415\u00a0555\u00a02671\u00a0x7",
        "+1415\u200b5552671 x7",
        "+14155552671;ext=7;isub=8",
        "+14155552671#7",
        "+14155552671,,7",
        "-+14155552671",
        "ann: +14155552671",
        "n@+14155552671",
        "+14155552671@",
        "+14155552671@-",
        "+14155552671@.-",
        "+14155552671@☃",
        "+1 (0) 415 555 2671",
        "+" + "/" * 20_000 + NUMBER,
        "n" * 20_000 + "+" + NUMBER,
    ],
)
def test_a_telephone_number_is_the_same_in_each_spelling(text: str) -> None:
    assert counted_text(text) == NUMBER


def test_letters_of_a_telephone_number_are_those_of_its_keys() -> None:
    assert counted_text("+1-800-FLOWERS") == counted_text("+1 800 356 9377") == "18003569377"


@pytest.mark.parametrize(
    "text",
    [
        "order-1234567",
        "C01234567",
        "12345678Z",
        "-1234567",
        "1234567,7654321",
        "52.5200,13.4049",
        "2024-05-06T10:11:12",
        "10:11:12",
        "1.2.3",
        "123-456",
        "1234-5678-9012-3456",
        "c++",
        "+7abc",
    ],
)
def test_what_has_no_form_of_one_is_as_it_is(text: str) -> None:
    assert counted_text(text) == text.lower()


@pytest.mark.parametrize(
    ("text", "counted"),
    [("2024-05-06", "20240506"), ("1920x1080", "19201080"), ("10.0.19041.1", "100190411")],
)
def test_what_only_has_the_form_of_one_is_counted_by_its_digits(text: str, counted: str) -> None:
    assert counted_text(text) == counted


def test_a_number_with_a_fraction_counts_as_its_text() -> None:
    assert counted_value(12345.67) == counted_text("12345.67")
    assert counted_value(1e300) == str(int(1e300))


@pytest.mark.parametrize(
    "text",
    [
        # A second number, to some.
        "+14155552671/x",
        "+14155552671/xq1",
        "+14155552671 \\ xq7 zz",
        "+14155552671/xq@example.com",
        "+14155552671/X1234567890",
        "4155552671/xq",
        # The rest of the number stands elsewhere.
        "tel:2671;phone-context=+1415555",
        "9tel:+14155552671;phone-context=example.com",
        # An extension to some, and digits or keys to others.
        "+1415555x\u200b2671",
        "x2671 +1415555x\u200b2671",
        "+1415555～2671",
        "+1415555x-.2671",
        "+1415555 2671#",
        "+14155552671 e\u200bxt 7",
        "+14155552671 ext 123456789012345678901",
        "+1415555~67/x1",
        "+14155552671 ext 7;isub=x7",
        "1415555x\u200b2671",
        # Letters that are keys to some, and signs to others.
        "+1415555A2671",
        "+1x4x1x55552671",
        "+1-800-FLOWERS٠",
        "①+14155552671",
        "①+1-800-FLOWERS",
        "⁺n+14155552671",
        "+14155552671ⓐⓑ",
        "4155552671ⓐⓑⓒ",
        "+14155552671@ⓔ",
        "+1415555267e1",
        "+1415555267.0",
        # What nobody writes.
        "+14155552671=7",
        "+14155552671 is ours: call",
        "+1 2345 67890123456",
        "+14155552671; n@example.com",
    ],
)
def test_a_number_in_a_writing_that_nobody_uses_is_counted_by_the_caller(text: str) -> None:
    assert counted_text(text) is None
    if "/" not in text:
        assert counted_path(f"/codes/{text}/x") is None


def test_another_slash_in_a_path_cannot_be_told() -> None:
    """`／x7` is an extension to libphonenumber."""
    assert counted_path("/codes/+14155552671／x7") is None


@pytest.mark.parametrize(
    "text",
    [
        "ann+20240506@example.com",
        '"+1 415 555 2671" <ann+20240506@example.com>',
        "build 1.2.3+20240506",
        "2024-05-06T10:11:12+02:00",
        "№ 7-1234567",
        "c++ 17 or 20",
        "a+b",
        "+100 eur",
    ],
)
def test_what_only_has_a_plus_in_it_is_told(text: str) -> None:
    assert counted_text(text) is not None
    assert not str(counted_text(text)).isdecimal()


@given(st.text("n @é<:", max_size=5), st.sampled_from(["", "-"]), st.text(max_size=20))
def test_no_trimming_of_a_number_has_a_bucket_of_its_own(
    before: str, between: str, behind: str
) -> None:
    behind = behind.replace("@", "(at)")
    counted = counted_text(f"{before}+1415{between}5552671{behind}")
    assert counted is None or counted.isdecimal()


@pytest.mark.parametrize(
    "one",
    [
        "1",
        "+",
        "+1",
        "-",
        " -",
        ";",
        ";a",
        ",",
        ", ",
        "x",
        "x ",
        "1x",
        "ext",
        "#",
        "(0)",
        "~1",
        "/x",
        "доб",
        "xt",
        "1#",
    ],
)
def test_a_long_telephone_number_costs_no_more_than_its_letters(one: str) -> None:
    tenth, text = (f"+1{one * (letters // len(one))}/" for letters in (6_000, 60_000))
    assert cost_ratio(lambda: counted_text(text), lambda: counted_text(tenth)) < 20
    short = "+1" + one * ((LONGEST_FOLDED - 4) // len(one)) + "/"
    assert cost_ratio(lambda: counted_text(short)) < 1
