from __future__ import annotations

import pytest

from gateway.identity import refresh
from gateway.identity.session_cookies import (
    COOKIE,
    EXPIRED,
    Csrf,
    hash_of,
    new_cookie,
    set_cookie,
    well_formed,
)
from gateway.model import Call, Credential, CredentialKind

CSRF = Csrf(b"k" * 32)
MINE, THEIRS = new_cookie(), new_cookie()


def call(*fields: tuple[bytes, bytes], kind: CredentialKind = CredentialKind.COOKIE) -> Call:
    credential = Credential(kind, MINE)
    return Call("POST", "a", "/x", ("x",), "", fields, "127.0.0.1", "http", credential)


def test_a_cookie_is_256_random_bits() -> None:
    assert len({new_cookie() for _ in range(100)}) == 100
    assert all(well_formed(new_cookie()) for _ in range(100))


@pytest.mark.parametrize(
    "text", ["", "A" * 42, "A" * 44, "A" * 42 + "=", "A" * 42 + "\n", "é" * 43]
)
def test_what_was_never_given_out_is_told_by_its_form(text: str) -> None:
    assert not well_formed(text)


def test_the_cookie_goes_with_the_attributes_it_came_with() -> None:
    given = set_cookie(MINE, 60)
    assert given == f"{COOKIE}={MINE}; Max-Age=60; Path=/; Secure; HttpOnly; SameSite=Lax"
    assert given.split("; ")[2:] == EXPIRED.split("; ")[2:]
    assert EXPIRED.startswith(f"{COOKIE}=; Max-Age=0; ")


def test_the_hash_of_a_cookie_is_no_refresh_tokens_hash() -> None:
    assert hash_of(MINE) != refresh.hash_of(MINE)
    assert hash_of(MINE) != hash_of(THEIRS)


def test_a_sessions_own_token_is_valid() -> None:
    assert CSRF.csrf_valid(call((b"X-CSRF-Token", CSRF.token(MINE).encode())))


@pytest.mark.parametrize(
    "fields",
    [
        (),
        ((b"x-csrf-token", b""),),
        ((b"x-csrf-token", CSRF.token(THEIRS).encode()),),
        ((b"x-csrf-token", MINE.encode()),),
        ((b"x-csrf-token", hash_of(MINE).encode()),),
        ((b"x-csrf-token", Csrf(b"other" * 8).token(MINE).encode()),),
        ((b"x-csrf-token", CSRF.token(MINE).encode() + b"\xff"),),
        ((b"x-csrf-token", CSRF.token(MINE).encode()), (b"X-Csrf-Token", b"x")),
        ((b"x_csrf_token", CSRF.token(MINE).encode()),),
    ],
)
def test_no_other_token_is_valid(fields: tuple[tuple[bytes, bytes], ...]) -> None:
    assert not CSRF.csrf_valid(call(*fields))


def test_a_csrf_token_proves_nothing_for_another_credential() -> None:
    token = CSRF.token(MINE).encode()
    assert not CSRF.csrf_valid(call((b"x-csrf-token", token), kind=CredentialKind.BEARER))
