from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.identity.opaque_tokens import hash_token
from gateway.identity.sign_in.session_cookies import (
    COOKIE,
    EXPIRED,
    CookieMint,
    Csrf,
    hash_cookie,
    is_of_cookie,
    is_of_one_host,
    set_cookie,
)
from gateway.model import Call, Credential, CredentialKind, Principal, Reason

CSRF = Csrf(b"k" * 32)
MINT = CookieMint(b"m" * 32)
MINE, THEIRS = MINT.new(), MINT.new()


@pytest.mark.parametrize(
    ("session_id", "kid", "of_cookie"),
    [("s", "", True), ("s", "k", False), (None, "", False), (None, "k", False)],
)
def test_a_principal_with_a_session_and_no_token_came_with_a_cookie(
    session_id: str | None, kid: str, of_cookie: bool
) -> None:
    assert (
        is_of_cookie(Principal("u", (), session_id, "t", None, kid=kid, issued_at=0, expires_at=1))
        is of_cookie
    )


@pytest.mark.parametrize("credential", [None, Reason.AMBIGUOUS_HEADER])
def test_a_csrf_token_proves_nothing_without_a_cookie(credential: Reason | None) -> None:
    with_cookie = call((b"x-csrf-token", CSRF.token(MINE).encode()))
    assert CSRF.csrf_valid(with_cookie) is True
    asked = replace(with_cookie, credential=credential)
    assert CSRF.csrf_valid(asked) is False


def call(*fields: tuple[bytes, bytes], kind: CredentialKind = CredentialKind.COOKIE) -> Call:
    credential = Credential(kind, MINE)
    return Call(
        "POST",
        "a",
        "/x",
        ("x",),
        "",
        headers=fields,
        client_ip="127.0.0.1",
        scheme="http",
        credential=credential,
    )


def test_a_cookie_is_256_random_bits_and_a_mark_that_only_we_can_make() -> None:
    assert len({MINT.new() for _ in range(100)}) == 100
    assert len(MINT.new()) == 43 + 11
    assert all(MINT.gave(MINT.new()) for _ in range(100))
    assert not MINT.gave(CookieMint(b"n" * 32).new())


@pytest.mark.parametrize(
    "text",
    [
        *("", "A" * 43, "A" * 53, "A" * 54, "A" * 55, MINE[:-1], MINE + "A", MINE[:-1] + "="),
        *(MINE + "\n", "é" * 54, MINE[:43] + THEIRS[43:], MINE.swapcase()),
        MINE[:-1] + chr(ord(MINE[-1]) ^ 1),
    ],
    ids=str.__len__,  # what is drawn anew for each run is no name
)
def test_what_was_never_given_out_is_told_without_asking_anybody(text: str) -> None:
    assert not MINT.gave(text)


def test_a_cookie_of_a_host_counts_there_alone_and_any_other_everywhere() -> None:
    of_host = MINT.new("app.example")
    assert len(of_host) == 43 + 2 * 11
    assert MINT.gave(of_host)
    assert is_of_one_host(of_host)
    assert not is_of_one_host(MINT.new())
    assert MINT.counts_at(of_host, "app.example")
    assert not any(MINT.counts_at(of_host, host) for host in ("", "example", "app.example."))
    assert MINT.counts_at(MINE, "anywhere.example")
    assert hash_cookie(of_host[:54]) != hash_cookie(of_host)  # what is cut off is no session's


def test_the_cookie_goes_with_the_attributes_it_came_with() -> None:
    line = set_cookie(MINE, 60)
    assert line == f"{COOKIE}={MINE}; Max-Age=60; Path=/; Secure; HttpOnly; SameSite=Lax"
    assert line.split("; ")[2:] == EXPIRED.split("; ")[2:]
    assert EXPIRED.startswith(f"{COOKIE}=; Max-Age=0; ")


def test_the_hash_of_a_cookie_is_no_refresh_tokens_hash() -> None:
    assert hash_cookie(MINE) != hash_token(MINE)
    assert hash_cookie(MINE) != hash_cookie(THEIRS)


def test_a_sessions_own_token_is_valid() -> None:
    assert CSRF.csrf_valid(call((b"X-CSRF-Token", CSRF.token(MINE).encode())))


@pytest.mark.parametrize(
    "fields",
    [
        (),
        ((b"x-csrf-token", b""),),
        ((b"x-csrf-token", CSRF.token(THEIRS).encode()),),
        ((b"x-csrf-token", MINE.encode()),),
        ((b"x-csrf-token", hash_cookie(MINE).encode()),),
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
