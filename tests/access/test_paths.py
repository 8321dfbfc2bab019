"""Every path has one reading, or is refused."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from urllib.parse import quote, unquote, unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.access.routing.path_readings import other_readings
from gateway.access.routing.paths import (
    CanonicalPath,
    Target,
    canonical,
    decoded_once,
    encoded,
    folds_into_another,
    split_target,
)
from gateway.model import Reason
from tests.cpu_cost import cost_ratio

AMBIGUOUS = [
    # CVE-2019-9901, CVE-2026-33494: dot segments, in every spelling.
    "/a/../admin", "/a/./b", "/..", "/.", "/../", "/a/..", "/a/.", "/%2e%2e/admin", "/a/%2E%2e",
    "/a/.%2e/b", "/a/%2e./b", "/%2e", "/a/%2e/b",
    # CVE-2021-43557, CVE-2021-29492: empty segments, encoded separators.
    "//", "//a", "/a//b", "/a//", "///", "/a/%5cb", "/a\\b", "/%5C..%5Cadmin", "/a%5cb",
    # CVE-2021-32779: fragments and parameters of segments.
    "/a#b", "/a#", "/a;b", "/a;v=1/b", "/a/..;/b", "/a%3bb", "/;", "/a%3B",
    # Control characters and broken encodings.
    "/a%00", "/a%00/b", "/%0a", "/a%0d%0ab", "/%7f", "/a\tb", "/a\x00", "/a b", "/a%c2%85b",
    "/%", "/a%", "/a%2", "/a%zz", "/%u002e", "/a%%41", "/%c0%af", "/%c0%ae%c0%ae", "/%e0%80%af",
    "/%ff", "/%ed%a0%80", "/a\xffb", "/%f8%88%80%80%af",
    # Encoded twice.
    "/%252e%252e/admin", "/%252fadmin", "/a%2541", "/%25%32%65", "/a%255c",
    "/%25u002e%25U002e/admin", "/a%25u002fb",
    # An encoded slash that hides any of the above.
    "/a%2f..", "/..%2fa", "/a%2f.%2fb", "/a%2f%2fb", "/%2f", "/a%2f", "/%2fa",
    # Full-width and other forms of the same, which a backend that folds with NFKC reads so.
    "/%ef%bc%8e%ef%bc%8e/admin", "/%ef%bc%8e", "/.%ef%bc%8e", "/%ef%b9%92.", "/%e2%80%a4", "/%e2%80%a5",
    "/a%ef%bc%8fb", "/..%ef%bc%8fa", "/a%ef%bc%bcb", "/a%ef%b9%a8b", "/a%ef%bc%9bb", "/a%cd%beb",
    "/a%ef%bc%85", "/%ef%bc%852e", "/%ef%b9%aa41", "/100%25%ef%bc%92%ef%bc%85", "/a%25%ef%bc%92e",
    "/%e2%84%80", "/%e2%84%85", "/\xef\xbc\x8f", "/a%2f%ef%bc%8e%ef%bc%8e", "/a%2fb%ef%bc%8fc",
]  # fmt: skip


@given(st.text(st.sampled_from("aé\x00/;.\u4e2d\U0001f600%\\")))
def test_a_path_is_decoded_as_by_anybody(text: str) -> None:
    path = quote(text, safe="/;").replace("%2F", "/")
    assert decoded_once(path) == unquote_to_bytes(path).decode()


@pytest.mark.parametrize("path", ["%", "a%4", "%zz", "%c0%af", "\xff"])
def test_what_is_no_text_is_not_decoded(path: str) -> None:
    with pytest.raises(UnicodeError):
        decoded_once(path)


@pytest.mark.parametrize("path", AMBIGUOUS)
def test_a_path_that_can_be_read_in_two_ways_is_refused(path: str) -> None:
    assert canonical(path) is Reason.AMBIGUOUS_PATH


@pytest.mark.parametrize(
    ("path", "segments"),
    [
        ("/", ("",)),
        ("/a", ("a",)),
        ("/a/", ("a", "")),
        ("/a/b/c", ("a", "b", "c")),
        ("/%61/%7Euser", ("a", "~user")),
        ("/a%20b", ("a b",)),
        ("/caf%C3%A9", ("café",)),
        ("/caf\xc3\xa9", ("café",)),
        ("/.well-known/x", (".well-known", "x")),
        ("/...", ("...",)),
        ("/a../..b", ("a..", "..b")),
        ("/a%2eb", ("a.b",)),
        ("/100%25", ("100%",)),
        ("/a+b,c=d@e:f!$&'()*", ("a+b,c=d@e:f!$&'()*",)),
        # CVE-2026-41059: an encoded `#` is one plain character.
        ("/foo/secret%23/bar", ("foo", "secret#", "bar")),
        ("/a%3Fb", ("a?b",)),
        # Folding these makes no other path of them.
        ("/%ef%bc%a1%ef%bc%8eb", ("\uff21\uff0eb",)),
        ("/100%25/cafe%cc%81", ("100%", "cafe\u0301")),
        ("/100%25-cafe%cc%81", ("100%-cafe\u0301",)),
        ("/%e2%80%a6", ("\u2026",)),
        ("/%c2%bd", ("\u00bd",)),
        ("/%ef%bc%9f%ef%bc%83", ("\uff1f\uff03",)),
    ],
)
def test_a_plain_path_is_split_and_decoded_once(path: str, segments: tuple[str, ...]) -> None:
    assert canonical(path) == CanonicalPath(segments)


def test_an_encoded_slash_is_told_so_that_a_route_can_allow_it() -> None:
    assert canonical("/p/group%2Fproject") == CanonicalPath(("p", "group/project"), True)


@pytest.mark.parametrize("path", ["", "a", "*", "http://h/a", "?x"])
def test_a_path_begins_with_a_slash(path: str) -> None:
    assert canonical(path) is Reason.REQUEST_MALFORMED


@pytest.mark.parametrize("target", ["/a?b#c", "/a#c?b", "/a?x=\x00", "/a?x y", "/a?b\\c"])
def test_a_fragment_or_a_control_character_in_the_query_is_refused(target: str) -> None:
    # CVE-2023-47106: a reader that cuts the fragment sees another target.
    assert split_target(target) is Reason.AMBIGUOUS_PATH


def test_a_target_keeps_the_bytes_of_its_path_and_query() -> None:
    target = split_target("/%61/b?x=%2e%2e/&y=//")
    assert not isinstance(target, Reason)
    assert (target.path, target.query) == ("/%61/b", "x=%2e%2e/&y=//")
    assert target.segments == ("a", "b")


def test_a_target_tells_what_only_some_routes_may_take() -> None:
    assert split_target("/p/group%2Fproject?x") == Target(
        "/p/group%2Fproject", "x", ("p", "group/project"), encoded_slash=True
    )
    assert split_target("/p/a;b") == Target("/p/a;b", "", ("p", "a;b"), files_only=True)


def test_a_second_question_mark_belongs_to_the_query() -> None:
    target = split_target("/a?b?c")
    assert not isinstance(target, Reason)
    assert target.query == "b?c"


def _reference(path: str) -> tuple[str, ...] | None:
    """The rules of docs/reasons.md, one after another, without a fast path; None is a refusal."""
    if any(ord(char) <= 0x20 or char in "\x7f#\\;" for char in path):
        return None
    pieces = path[1:].split("/")
    if any(not piece for piece in pieces[:-1]):
        return None
    found = []
    for piece in pieces:
        for at, char in enumerate(piece):
            digits = piece[at + 1 : at + 3]
            if char == "%" and not (
                len(digits) == 2 and set(digits) <= set("0123456789abcdefABCDEF")
            ):
                return None
        try:
            text = unquote(piece, encoding="latin-1").encode("latin-1").decode("utf-8")
        except UnicodeError:
            return None
        again = any(
            text[i] == "%"
            and len(text) >= i + 3
            and set(text[i + 1 : i + 3]) <= set("0123456789abcdefABCDEF")
            for i in range(len(text))
        ) or re.search("%[uU][0-9A-Fa-f]{4}", text)
        control = any(ord(char) < 0x20 or 0x7F <= ord(char) <= 0x9F for char in text)
        if again or control or "\\" in text or ";" in text:
            return None
        if text in (".", "..") or ("/" in text and {"", ".", ".."} & set(text.split("/"))):
            return None
        folded = unicodedata.normalize("NFKC", text)
        if {".", ".."} & set(folded.split("/")) or re.search("%[0-9A-Fa-f]{2}", folded):
            return None
        if any(folded.count(char) > text.count(char) for char in "/\\%;"):
            return None
        found.append(text)
    return tuple(found)


PIECES = st.sampled_from(
    ["a", "b", ".", "..", "/", "//", "%", "%25u002e", "%2e", "%2E", "%2f", "%5c", "%25", "2e", "%00", ";", "#",
     "\\", "\uff0e", "\uff0f", "\uff3c", "\uff05", "\uff12", "\u2025", "\uff1b", "%ef%bc%8e", "%c3%a9", "%c0%af", "é", "\xff", "~", "%41", "%3b", " ", "%20", "%7f", "\x80"]
)  # fmt: skip


@given(st.lists(PIECES, max_size=12).map(lambda pieces: "/" + "".join(pieces)))
def test_the_fast_path_and_the_rules_agree(path: str) -> None:
    raw = path.encode("utf-8").decode("latin-1")
    found = canonical(raw)
    wanted = _reference(raw)
    if wanted is None:
        assert found is Reason.AMBIGUOUS_PATH
    else:
        assert isinstance(found, CanonicalPath)
        assert found.segments == wanted


def foldable() -> list[str]:
    """Every character beyond ASCII that folds to one which means something in a path."""
    return [
        chr(code)
        for code in range(0x80, 0x110000)
        if set(unicodedata.normalize("NFKC", chr(code))) & set("./\\%")
    ]


LETTERS = st.deferred(lambda: st.sampled_from([*foldable(), *"./%2ef"]))


@given(st.text(LETTERS, min_size=1, max_size=6))
def test_no_segment_becomes_another_path_by_folding(segment: str) -> None:
    found = canonical("/" + encoded(segment))
    if isinstance(found, CanonicalPath):
        folded = unicodedata.normalize("NFKC", segment)
        assert not {".", ".."} & set(folded.split("/"))
        assert not re.search("%[0-9A-Fa-f]{2}", folded)
        assert folded.count("/") == segment.count("/")
        assert "\\" not in folded


@given(st.text(alphabet=st.characters(min_codepoint=0, max_codepoint=255), max_size=40))
def test_no_bytes_make_it_raise(tail: str) -> None:
    found = canonical("/" + tail)
    if isinstance(found, CanonicalPath):
        assert ".." not in found.segments
        assert "." not in found.segments
        assert "" not in found.segments[:-1]


@given(
    st.lists(st.text(st.characters(codec="utf-8"), min_size=1, max_size=8), min_size=1, max_size=5)
)
def test_what_is_encoded_segment_by_segment_is_read_back(segments: list[str]) -> None:
    found = canonical("/" + "/".join(encoded(segment) for segment in segments))
    if isinstance(found, CanonicalPath):
        assert found.segments == tuple(segments)
        # The reading is settled: sent on and read again, it is the same.
        assert canonical("/" + "/".join(quote(s, safe="") for s in found.segments)) == found


def test_a_letter_counts_as_what_it_becomes_wherever_that_could_say_anything_of_a_path() -> None:
    """Each by itself, behind a percent sign and between slashes, against NFKC of the whole."""
    escape = r"%(?:[0-9A-Fa-f]{2}|[Uu][0-9A-Fa-f]{4})"
    for code in range(0xA0, 0x110000):
        letter = chr(code)
        folded = unicodedata.normalize("NFKC", letter) if not 0xD800 <= code < 0xE000 else letter
        if folded == letter:
            continue
        for text in (letter, f"%{letter}f", f"%4{letter}", f"a/{letter}/b", f"a/{letter}./b"):
            whole = unicodedata.normalize("NFKC", text)
            signs = any(whole.count(sign) > text.count(sign) for sign in "/\\%;")
            escapes = len(re.findall(escape, whole)) > len(re.findall(escape, text))
            climbs = not {".", ".."}.isdisjoint(whole.split("/"))
            assert folds_into_another(text) == (signs or escapes or climbs), text


@pytest.mark.parametrize("path", ["/" + "%61/" * 2_000, "/" + "a%2fb/" * 1_360])
def test_a_target_of_thousands_of_segments_takes_little_longer_than_to_decode_it(path: str) -> None:
    """It is read before anybody knows who calls: two hundred a second once took a whole core."""
    # Measured 3; what once took a core was 19.
    assert cost_ratio(lambda: canonical(path), lambda: unquote_to_bytes(path).decode()) < 10


@pytest.mark.parametrize("path", ["/{}", "/a%253Bd%255Ce%5Cf;g%2541{}"], ids=["any", "files"])
def test_a_letter_that_becomes_18_others_costs_as_much_as_one_that_stays(path: str) -> None:
    """U+FDFA: folded as a whole, 850 of them took 2 ms, and 12 ms where all readings were."""

    def read(letter: str) -> Callable[[], object]:
        target = path.format(quote(letter) * 850)
        return lambda: (canonical(target, files=True), other_readings(target))

    assert cost_ratio(read("\ufdfa"), read("\u4e00")) < 2
