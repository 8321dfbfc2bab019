"""The session cookie itself, and the CSRF token that belongs to it.

Law: nothing that rests anywhere is the cookie.  Redis and SQL know its hash, and the CSRF
token is an HMAC under a key of the installation: neither leads back to it, and none of the
three is worth anything in the place of another.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets

from gateway.identity.base64url import encoded
from gateway.model import Call, Credential, CredentialKind, Principal

COOKIE = "__Host-session"
CSRF_FIELD = b"x-csrf-token"

_DRAWN, _OF_ANY_HOST = 43, 54
_FORM = re.compile(r"[A-Za-z0-9_-]{54}(?:[A-Za-z0-9_-]{11})?", re.ASCII)
# `__Host-` asks for Secure and Path=/ and no Domain (RFC 6265bis section 4.1.3.2): no other
# host and no page without TLS can set it or take it away.
_ATTRIBUTES = "Path=/; Secure; HttpOnly; SameSite=Lax"

EXPIRED = f"{COOKIE}=; Max-Age=0; {_ATTRIBUTES}"
"""The value of the `Set-Cookie` that takes the cookie away: without its own attributes the
browser would keep a `__Host-` cookie (CVE-2026-34454)."""


class CookieMint:
    """Gives session cookies, and knows its own: no store is asked about others, so that who
    makes cookies up fills no queue."""

    def __init__(self, key: bytes) -> None:
        """`key` is `derived_key(secret, KeyPurpose.SESSION_COOKIE)`."""
        self._key = key

    def new(self, host: str | None = None) -> str:
        """256 random bits, and 64 that only we can add to them; with `host` 64 more, and then
        it counts at that host alone."""
        drawn = secrets.token_urlsafe(32)
        cookie = drawn + self._mark(drawn)
        return cookie if host is None else cookie + self._mark(f"{drawn}\x00{host}")

    def gave(self, cookie: str) -> bool:
        """Whether it was given here, at any time."""
        if _FORM.fullmatch(cookie) is None:
            return False
        drawn, mark = cookie[:_DRAWN], cookie[_DRAWN:_OF_ANY_HOST]
        return hmac.compare_digest(mark, self._mark(drawn))

    def counts_at(self, cookie: str, host: str) -> bool:
        """Whether one that was given here may be used at this host: one that was given for a host
        counts there, whoever sends it elsewhere."""
        of_host = cookie[_OF_ANY_HOST:]
        if not of_host:
            return True
        return hmac.compare_digest(of_host, self._mark(f"{cookie[:_DRAWN]}\x00{host}"))

    def _mark(self, text: str) -> str:
        return encoded(hmac.digest(self._key, text.encode(), hashlib.sha256)[:8])


def is_of_one_host(cookie: str) -> bool:
    """Whether it counts at one host alone (`CookieMint.counts_at`): it was handed over, or given
    for a sign-in at another host than the public one."""
    return len(cookie) > _OF_ANY_HOST


def set_cookie(cookie: str, life_s: int) -> str:
    """The value of the `Set-Cookie` that gives the cookie."""
    return f"{COOKIE}={cookie}; Max-Age={life_s}; {_ATTRIBUTES}"


def is_of_cookie(principal: Principal) -> bool:
    """Whether it came with a session cookie: with a session, and without a token."""
    return principal.session_id is not None and not principal.kid


def hash_cookie(cookie: str) -> str:
    """What the stores keep of a cookie.

    Never the hash of a refresh token of the same text: the one cannot be presented as the
    other.
    """
    return encoded(hashlib.sha256(b"authgate session cookie\x00" + cookie.encode()).digest())


class Csrf:
    """Makes and checks CSRF tokens (`access.routing.csrf.CsrfCheck`).  One lasts as long as its
    cookie."""

    def __init__(self, key: bytes) -> None:
        """`key` is `derived_key(secret, KeyPurpose.CSRF)`."""
        self._key = key

    def token(self, cookie: str) -> str:
        return encoded(hmac.digest(self._key, b"csrf\x00" + cookie.encode(), hashlib.sha256))

    def csrf_valid(self, call: Call) -> bool:
        """Whether the call's one `X-CSRF-Token` belongs to its session cookie."""
        credential = call.credential
        if not isinstance(credential, Credential) or credential.kind is not CredentialKind.COOKIE:
            return False
        values = [value for name, value in call.headers if name.lower() == CSRF_FIELD]
        if len(values) != 1:
            return False
        return hmac.compare_digest(values[0], self.token(credential.text).encode())
