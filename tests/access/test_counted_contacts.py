"""Addresses, as limits count them: whatever a backend's parser finds in two texts as one is one to a
limit."""

from __future__ import annotations

from contextlib import suppress
from email.utils import parseaddr

import pytest
from email_validator import EmailNotValidError, validate_email
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import EmailStr, TypeAdapter, ValidationError

from gateway.access.counted_values import LONGEST_FOLDED, counted_text, counted_value
from tests.cpu_cost import cost_ratio

ADDRESS = "victim@mail.example.com"
EMAIL = TypeAdapter(EmailStr)


@pytest.mark.parametrize(
    "text",
    [
        f"n1 <{ADDRESS}>",
        f'"3x" <{ADDRESS}>',
        f"n.1 < {ADDRESS} >",
        f'"n@example.com" <{ADDRESS}>',
        f'"a \\"n@example.com\\"" <{ADDRESS}>',
        f'"(<" <{ADDRESS}>',
        f'"a" (" <{ADDRESS}>',
        f"(a < b) {ADDRESS}",
        f"{ADDRESS} (n)",
        f"<{ADDRESS}> n",
        f"<{ADDRESS}",
        f"n1 {ADDRESS}",
        f"n1; {ADDRESS}",
        f"friends: {ADDRESS};",
        f"<@a.example,@b.example:{ADDRESS}>",
        f"mailto:{ADDRESS}",
        f"{ADDRESS}, n1",
        f"{ADDRESS}.",
        "victim(1(2))@mail.example.com",
        "(1)victim@(2)mail.example.com",
        "victim @ mail . example.com",
        '"victim"@mail.example.com',
        '"vic\\tim"@mail.example.com',
        "victim@mail。example．com",
        "victim@mail｡example.com",
    ],
)
def test_an_address_is_the_same_whatever_stands_around_it(text: str) -> None:
    assert counted_text(text) == ADDRESS
    assert counted_text(text.upper()) == ADDRESS
    assert counted_value([text]) == ADDRESS


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("v@bücher.example", "v@xn--bcher-kva.example"),
        ("v@BÜCHER.example", "v@XN--BCHER-KVA.example"),
        ("v@straße.example", "v@xn--strae-oqa.example"),
        ("v@日本語。example", "v@xn--wgv71a119e.example"),
        ("v@ᾀ.example", "v@ἀι.example"),
        # Of Unicode 16: Python 3.13 does not know it, and `idna` does.
        ("v@m\U0001ccd6il.example", "v@mail.example"),
        ("v@россия.example", "Ann <v@xn--h1alffa9f.example>"),
    ],
)
def test_a_domain_is_the_same_by_its_ascii_name(text: str, same: str) -> None:
    assert counted_text(text) == counted_text(same)


@pytest.mark.parametrize(
    "text",
    [
        "victim@example.com",
        "victim+x@example.com",
        "o'hara@example.com",
        "victim@[192.0.2.1]",
        "victim@xn--.example",
        "victim@xn--xn---x.example",
        "@ann",
        "@ann how are you",
        "@scope/name@1.2.3",
        "name@^1.0",
        "https://example.com/@ann/7?a=@b,c",
        "https://example.com/" + "a" * LONGEST_FOLDED + "@b",
        "a @",
    ],
)
def test_what_is_a_bare_address_or_none_is_as_it_is(text: str) -> None:
    assert counted_text(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "a@example.com, b@example.com",
        "<a@example.com> <b@example.com>",
        "a@example.com (<b@example.com>)",
        "a@b@example.com",
        "a@example.com@b.example",
        "a@example.com:b",
        "a@example.com b",
        "a . b@example.com",
        "a(b)c@example.com",
        "a@example(c).com",
        "a@example.com(",
        '"a b"@example.com',
        '"a@example.com',
        "a\\b@example.com",
        "⑴@example.com",
        "n" * LONGEST_FOLDED + " <a@example.com>",
    ],
)
def test_what_one_reads_so_and_another_otherwise_cannot_be_told(text: str) -> None:
    assert counted_text(text) is None


# Without digits in other signs, such as `¼`: beside a `+` they are counted by the caller.
NAMES = st.text(
    st.characters(
        exclude_characters='"@\\', exclude_categories=("Cc", "Cs", "Nl", "No", "Sm", "So")
    ),
    max_size=20,
)
BLANKS = st.sampled_from(["", " ", "  ", "\t"])
LOCALS = st.sampled_from(["victim", "VICTIM", "v.t", "v+t", "o'hara", "víctim", "жертва"])
DOMAINS = st.sampled_from(
    ["mail.example.com", "Mail.Example.COM", "mail。example｡com", "bücher.example",
     "xn--bcher-kva.example", "BÜCHER．example"]
)  # fmt: skip


@given(LOCALS, DOMAINS, NAMES, BLANKS, st.booleans())
def test_what_pydantic_reads_as_one_address_is_one(
    local: str, domain: str, name: str, blank: str, is_quoted: bool
) -> None:
    name = f'"{name}"' if is_quoted else name
    text = f"{blank}{name}{blank}<{blank}{local}@{domain}{blank}>{blank}"
    assume(len(text) <= LONGEST_FOLDED // 4)
    with suppress(ValidationError):
        assert counted_text(text) == counted_text(EMAIL.validate_python(text))


@given(
    st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), min_size=1, max_size=8)
)
def test_a_domain_that_pydantic_reads_is_one_in_each_spelling(label: str) -> None:
    """Also as the ASCII name that it gives, and by whatever it leaves out or makes of letters."""
    try:
        read = validate_email(f"v@{label}.example", check_deliverability=False)
    except EmailNotValidError:
        return
    counted = counted_text(f"v@{label}.example")
    assert counted == counted_text(read.normalized) == counted_text(f"v@{read.ascii_domain}")


PIECES = st.lists(
    st.sampled_from(
        ["victim@x.com", "<victim@x.com>", "victim", "@x.com", "n1", ".", " ", "<", ">", "(", ")",
         '"', "\\", ",", ";", ":", "[", "]", "@", "+", "。", "é", "(c)", '"q"', "\t"]
    ),
    min_size=1,
    max_size=10,
)  # fmt: skip


@given(PIECES, st.sampled_from(["pydantic", "strict", "lax"]))
def test_whatever_is_read_as_an_address_is_that_one_or_cannot_be_told(
    pieces: list[str], by: str
) -> None:
    text = "".join(pieces)
    try:
        read = EMAIL.validate_python(text) if by == "pydantic" else parseaddr(text)[1]
        if by == "lax":  # as before the versions that know `strict`
            with suppress(TypeError):
                read = parseaddr(text, strict=False)[1]
        known = validate_email(read, check_deliverability=False, allow_quoted_local=True).normalized
    except (ValidationError, EmailNotValidError):
        return
    assert counted_text(text) in (counted_text(known), counted_text(read), None)


@pytest.mark.parametrize(
    "text",
    [
        *(one * (LONGEST_FOLDED // len(one) - 6) + "@x" for one in ("(", '"', "<", "\\", " ", "a.", ",x", ". ")),
        "v@" + "xn--a" * 50,
        "v@" + "xn--a." * 42,
        "@" * LONGEST_FOLDED,
        "<@" * 128,
        ": " * 128 + "@",
    ],
)  # fmt: skip
def test_an_address_costs_no_more_than_its_letters(text: str) -> None:
    assert cost_ratio(lambda: counted_text(text)) < 4


@given(st.text('0123456789+-() x.,;:@<>"\\tel#a', max_size=40))
def test_what_is_counted_is_counted_as_itself(text: str) -> None:
    counted = counted_text(text)
    assert counted is None or counted_text(counted) == counted
