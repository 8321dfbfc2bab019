"""Basic credentials (RFC 7617) whose password is an API key."""

from __future__ import annotations

from base64 import b64encode

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.identity.clients.basic_keys import BasicKeyAuthenticator, password_of
from gateway.model import Call, Credential, CredentialKind, Principal, Reason

CALL = Call("GET", "x", "/", ("",), "", headers=(), client_ip="192.0.2.1", scheme="https")
NO_CONTROLS = st.characters(exclude_categories=("Cs", "Cc"))


def encoded(pair: str | bytes) -> str:
    return b64encode(pair.encode() if isinstance(pair, str) else pair).decode()


@example("ada", ":ag_x")
@example("", "b:ag_x:")
@given(st.text(NO_CONTROLS.filter(lambda char: char != ":")), st.text(NO_CONTROLS))
def test_the_first_colon_ends_the_name_and_the_rest_is_the_password(
    user: str, password: str
) -> None:
    assert password_of(encoded(f"{user}:{password}")) == password


@given(st.text(st.characters(max_codepoint=255)))
def test_whatever_comes_is_read_or_refused_and_never_raises(token: str) -> None:
    password = password_of(token)
    assert password is None or isinstance(password, str)


@pytest.mark.parametrize(
    "token",
    [
        "",
        "=",
        "YTpi=",
        "YTpi YTpi",
        "YTpi\n",
        "YTpi-_",
        "YTpiY",  # what is left of a longer one
        "é",
        encoded("no colon"),
        encoded(b"\xff:key"),
        encoded("a\nb:key"),
        encoded("a:key\x00"),
        encoded("a:key\x7f"),
    ],
)
def test_what_is_no_pair_is_no_password(token: str) -> None:
    assert password_of(token) is None


class Keys:
    def __init__(self) -> None:
        self.asked: list[Credential] = []

    async def authenticate(self, credential: Credential, call: Call) -> Principal | Reason:
        self.asked.append(credential)
        return Reason.TOKEN_REVOKED


@pytest.mark.parametrize("user", ["", "ada", "ada@example.com", "übel", "x" * 4_000])
async def test_the_password_is_judged_as_a_key_whatever_the_name(user: str) -> None:
    keys = Keys()
    credential = Credential(CredentialKind.BASIC, encoded(f"{user}:ag_x"))
    assert await BasicKeyAuthenticator(keys).authenticate(credential, CALL) is Reason.TOKEN_REVOKED
    assert keys.asked == [Credential(CredentialKind.API_KEY, "ag_x")]


async def test_what_cannot_be_read_asks_nobody() -> None:
    keys = Keys()
    credential = Credential(CredentialKind.BASIC, "")
    answer = await BasicKeyAuthenticator(keys).authenticate(credential, CALL)
    assert (answer, keys.asked) == (Reason.TOKEN_MALFORMED, [])
