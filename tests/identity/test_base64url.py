from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.identity.base64url import decoded, encoded


@given(raw=st.binary(max_size=200))
def test_what_is_encoded_decodes_to_itself(raw: bytes) -> None:
    assert decoded(encoded(raw)) == raw


@given(text=st.text(alphabet="AQgwBCz059_-+/= \n", max_size=12))
def test_what_decodes_has_no_other_spelling(text: str) -> None:
    raw = decoded(text)
    assert raw is None or encoded(raw) == text


@pytest.mark.parametrize(
    "text",
    [
        "A",
        "AB",
        "AAB",
        "AA==",
        "AA=",
        "A=AA",
        "A+AA",
        "A/AA",
        "A?AA",
        "AA A",
        "AA\n",
        "é",
        "A\ud800AA",
    ],
)
def test_other_spellings_are_refused(text: str) -> None:
    assert decoded(text) is None
