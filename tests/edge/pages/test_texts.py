"""The catalogue: every language says everything, and a browser gets the one that it asks for."""

from __future__ import annotations

import pytest

from gateway.edge.pages.shipped_texts import shipped_texts
from gateway.edge.pages.texts import PLACEHOLDER, Catalogue, preferred
from gateway.model import Call


def call(accept_language: str) -> Call:
    fields = [(b"Accept-Language", accept_language.encode())]
    return Call(
        "GET", "gate.example", "/", ("",), "", headers=fields, client_ip="192.0.2.1", scheme="https"
    )


def test_every_language_has_every_text_and_every_value() -> None:
    shipped = shipped_texts()
    for language, texts in shipped.items():
        assert texts.keys() == shipped["en"].keys(), language
        for key, text in texts.items():
            assert isinstance(text, str), key
            assert set(PLACEHOLDER.findall(text)) == set(PLACEHOLDER.findall(shipped["en"][key]))


@pytest.mark.parametrize(
    ("asked", "language"),
    [
        ("", "en"),
        ("de", "de"),
        ("DE-at", "de"),
        ("de-Latn-DE-1996", "de"),
        ("en-GB,de;q=0.9", "en"),
        ("fr, de;q=0.5, en;q=0.6", "en"),
        ("de;q=0, fr", "en"),
        ("*", "en"),
        ("de;q=9", "en"),
        ("nonsense;;;,de", "de"),
        ("x" * 2_000 + ",de", "en"),
    ],
)
def test_the_language_is_the_first_of_those_that_are_asked_for(asked: str, language: str) -> None:
    assert Catalogue(shipped_texts()).texts_for(call(asked)).language == language


def test_ranges_are_read_in_the_order_of_their_quality() -> None:
    assert preferred("a;q=0.1, b, c;q=0.5, d;q=0") == ["b", "c", "a"]


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (0.2, "1 second"),
        (1.5, "2 seconds"),
        (89, "89 seconds"),
        (90, "2 minutes"),
        (899.5, "15 minutes"),
    ],
)
def test_a_wait_is_never_told_too_short(seconds: float, told: str) -> None:
    assert Catalogue(shipped_texts()).texts_for(call("")).duration(seconds) == told
