"""What is said of a credential that came and did not count."""

from __future__ import annotations

import pytest

from gateway.edge.replies.uncounted import uncounted
from gateway.model import Call, CredentialKind
from tests.edge.proxy.test_request import read

BEARER, COOKIE = CredentialKind.BEARER, CredentialKind.COOKIE
API_KEY, BASIC = CredentialKind.API_KEY, CredentialKind.BASIC
SECRET = "c2VjcmV0LW9mLW1pbmU6YW5k"
SESSION = f"Cookie: a=1; __Host-session={SECRET}"


def call(*lines: str) -> Call:
    return read(*(line.encode() for line in lines))


@pytest.mark.parametrize(
    ("lines", "accept", "said"),
    [
        ([SESSION], {BEARER, COOKIE}, "nothing shows which page sent the session cookie"),
        ([SESSION, "Sec-Fetch-Site: cross-site"], {COOKIE}, "a page of another origin"),
        ([SESSION, "Origin: https://evil.example"], {COOKIE}, "a page of another origin"),
        ([SESSION, f"X-CSRF-Token: {SECRET}"], {COOKIE}, "X-CSRF-Token beside the session cookie"),
        ([SESSION], {BEARER}, "the session cookie is not taken here"),
        ([f"Authorization: Basic {SECRET}"], {BEARER, COOKIE}, "scheme Basic, and Bearer is taken"),
        ([f"Authorization: bearer {SECRET}"], {BASIC}, "scheme Bearer, and Basic is taken here"),
        ([f"Authorization: Token {SECRET}"], {BEARER, BASIC}, "scheme token, and Bearer or Basic"),
        ([f"Authorization: {SECRET} x"], {BEARER}, "another scheme, and Bearer is taken here"),
        ([f"Authorization: Bearer {SECRET}"], {API_KEY}, "an access token is not taken here"),
        ([f"Authorization: Bearer {SECRET}"], {COOKIE}, "no Authorization is taken here"),
    ],
)
def test_it_names_what_came_and_why_it_does_not_count(
    lines: list[str], accept: set[CredentialKind], said: str
) -> None:
    detail = uncounted(call(*lines), accept)
    assert detail is not None
    assert said in detail
    assert SECRET not in detail


def test_of_two_both_are_told() -> None:
    detail = uncounted(call(f"Authorization: Basic {SECRET}", SESSION), {BEARER})
    assert detail == (
        "This call needs a credential, and what came does not count: its Authorization is of the"
        " scheme Basic, and Bearer is taken here; the session cookie is not taken here."
    )


@pytest.mark.parametrize("lines", [[], ["Cookie: a=1; session=2"], ["X-Api-Key: 1"]])
def test_where_nothing_came_nothing_is_added(lines: list[str]) -> None:
    assert uncounted(call(*lines), {BEARER, COOKIE}) is None
