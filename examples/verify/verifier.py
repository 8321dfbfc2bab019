"""Verifies `X-Auth-Assertion`, the proof that a call came through authgate and who made it.

Copy this file and the one for your framework into your service; it needs `pyjwt[crypto]`.

    verifier = Verifier(
        issuer="https://gateway.example.com",
        audience="orders",                     # `assertion: {audience: orders}` in routes.yaml
        jwks_url="https://gateway.example.com/.well-known/jwks.json",
    )

What is checked: the signature, by a key of the JWKS and with EdDSA alone; the type, so that an
access token is no assertion; issuer, audience, times; and that the assertion was made for this
very method and path.  The `X-Auth-*` fields beside it are not looked at.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_to_bytes

import jwt

FIELD = "X-Auth-Assertion"
TYP = "authgate-assertion+jwt"
LEEWAY_S = 5
"""How far the clocks of the two machines may be apart."""
FETCH_EVERY_S = 30.0
"""A stranger who invents key ids makes us ask for the keys no oftener."""
JWKS_BYTES_MAX = 1_000_000


class Refused(Exception):
    """The call is nobody's; the text is for a log, not for the caller."""


class _UnknownKey(Exception):
    pass


@dataclass(frozen=True, slots=True)
class Caller:
    subject: str
    roles: frozenset[str]
    session_id: str | None
    email: str | None
    email_verified: bool


class Verifier:
    """Safe to share between threads and tasks."""

    def __init__(
        self,
        *,
        issuer: str,
        audience: str,
        jwks_url: str,
        fetch: Callable[[str], bytes] | None = None,
    ) -> None:
        self._issuer = issuer
        self._audience = audience
        self._jwks_url = jwks_url
        self._fetch = fetch or _fetch
        self._keys: Mapping[str, jwt.PyJWK] = {}
        self._fetched_at = -FETCH_EVERY_S
        self._lock = threading.Lock()

    def verify(self, assertion: str, method: str, path: str, *, decoded: bool = False) -> Caller:
        """Who calls; raises Refused.

        `path` is the path as it came, percent-encoded, without the query.  Where a server
        only tells it decoded, say so: as authgate lets no path pass that two readers could
        decode differently, comparing the decoded ones is as good.
        """
        try:
            return self._verified(assertion, method, path, decoded)
        except _UnknownKey:
            self._refresh()
        try:
            return self._verified(assertion, method, path, decoded)
        except _UnknownKey:
            raise Refused("signed by no key of the JWKS") from None

    async def verify_async(self, assertion: str, method: str, path: str) -> Caller:
        """As `verify`; the keys are fetched in a thread, so that the loop goes on."""
        try:
            return self._verified(assertion, method, path, decoded=False)
        except _UnknownKey:
            return await asyncio.to_thread(self.verify, assertion, method, path)

    def _verified(self, assertion: str, method: str, path: str, decoded: bool) -> Caller:
        try:
            header = jwt.get_unverified_header(assertion)
            if header.get("typ") != TYP:
                raise Refused("not an assertion")
            key = self._keys.get(str(header.get("kid")))
            if key is None:
                raise _UnknownKey
            claims: dict[str, Any] = jwt.decode(
                assertion,
                key,
                algorithms=["EdDSA"],
                audience=self._audience,
                issuer=self._issuer,
                leeway=LEEWAY_S,
                options={"require": ["exp", "iat", "sub", "method", "path"], "strict_aud": True},
            )
        except jwt.InvalidTokenError as error:
            raise Refused(type(error).__name__) from error
        meant = str(claims["path"])
        same = unquote_to_bytes(meant) == path.encode("latin-1") if decoded else meant == path
        if claims["method"] != method or not same:
            raise Refused("made for another call")
        return Caller(
            str(claims["sub"]),
            frozenset(claims.get("roles", ())),
            claims.get("sid"),
            claims.get("email"),
            claims.get("email_verified", False),
        )

    def _refresh(self) -> None:
        with self._lock:
            if time.monotonic() - self._fetched_at < FETCH_EVERY_S:
                return
            self._fetched_at = time.monotonic()
            try:
                found = json.loads(self._fetch(self._jwks_url))["keys"]
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise Refused("the keys could not be fetched") from error
            self._keys = {
                key["kid"]: jwt.PyJWK(key) for key in found if key.get("crv") == "Ed25519"
            }


def _fetch(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=3) as answer:
        body: bytes = answer.read(JWKS_BYTES_MAX)
        return body
