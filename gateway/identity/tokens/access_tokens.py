"""Access tokens: made here, and judged here from nothing but their text and the key ring.

Law: the algorithm is the key's, never the token's; nothing inside a token is followed; what
is not exactly as docs/security/tokens-and-keys.md says is refused before it can be believed.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gateway.bounded_memo import BoundedMemo
from gateway.identity.keys.key_ring import KeyRing
from gateway.identity.tokens import jws
from gateway.model import Clock, Principal, Reason

TYP = "at+jwt"
"""RFC 9068 section 2.1."""

IAT_AHEAD_S = 5
"""How far another node's clock may be ahead of ours."""

FIRST_PARTY_CLIENT = "authgate"
"""The `client_id` of those who sign in at /auth itself: RFC 9068 section 2.2 demands one."""

_NAME = re.compile(r"[A-Za-z0-9._:@-]{1,128}")
_NAME_MAX = 128
_NAME_SIGNS = re.compile(r"[A-Za-z0-9._:@-]*")
_EMAIL_MAX = 254
_HEADERS_MAX = 64
_HEADER_LETTERS_MAX = 512
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def is_name(text: object) -> bool:
    """What a subject, session id, token id, client id or role may look like: checked when it
    is granted and when it comes back, as it goes into header lines and policies."""
    return isinstance(text, str) and _NAME.fullmatch(text) is not None


def are_names(values: list[Any]) -> bool:
    """Whether each of them is one.  All are looked at together: to begin with each anew takes most
    of the time."""
    for value in values:
        if not isinstance(value, str) or not 0 < len(value) <= _NAME_MAX:
            return False
    return _NAME_SIGNS.fullmatch("".join(values)) is not None


def is_email(value: object) -> bool:
    """It goes into a header line, so nothing in it may end one."""
    if not isinstance(value, str) or not 0 < len(value) <= _EMAIL_MAX:
        return False
    return _CONTROL.search(value) is None


@dataclass(frozen=True, slots=True)
class TokenSubject:
    """Whom a token speaks of."""

    subject: str
    email: str | None
    email_verified: bool
    roles: tuple[str, ...]
    session_id: str | None
    client_id: str | None
    amr: tuple[str, ...]
    auth_time: int | None
    claims: Mapping[str, Any] = field(default_factory=dict)
    """What is said of it besides; none has the name of a claim of its own."""


@dataclass(frozen=True, slots=True)
class IssuedToken:
    text: str
    token_id: str
    expires_at: int


class TokenIssuer:
    def __init__(
        self,
        ring: KeyRing,
        *,
        issuer: str,
        audience: str,
        ttl_s: int,
        new_id: Callable[[], str] = lambda: secrets.token_urlsafe(16),
    ) -> None:
        self._ring = ring
        self._issuer = issuer
        self._audience = audience
        self._ttl_s = ttl_s
        self._new_id = new_id

    def require_key(self) -> None:
        """Raises StoreUnavailable where `issue` would for want of a sure signing key: asked before
        anything is used up, or begun, for a token that could not be given."""
        self._ring.signing_key()

    def issue(self, whom: TokenSubject, issued_at: int, *, until: int | None = None) -> IssuedToken:
        """`until`: it ends then, where it would live for longer.

        Raises StoreUnavailable when the signing key is not sure, ValueError for a name that the
        verifier would refuse or a text that would be too long for it."""
        names = (whom.subject, whom.session_id, whom.client_id, *whom.roles)
        if not all(is_name(name) for name in names if name is not None) or not is_email(
            whom.email or "-"
        ):
            raise ValueError("a name is not of the form that tokens take")
        key = self._ring.signing_key()
        token_id, expires_at = self._new_id(), issued_at + self._ttl_s
        if until is not None:
            expires_at = min(expires_at, max(until, issued_at + 1))
        claims: dict[str, Any] = {
            **whom.claims,
            "iss": self._issuer,
            "aud": self._audience,
            "sub": whom.subject,
            "user_id": whom.subject,
            "roles": list(whom.roles),
            "jti": token_id,
            "iat": issued_at,
            "exp": expires_at,
            "client_id": whom.client_id or FIRST_PARTY_CLIENT,
            "amr": list(whom.amr),
        }
        acr = acr_of(whom.amr)
        if acr is not None:
            claims["acr"] = acr
        if whom.session_id is not None:
            claims["sid"] = whom.session_id
        if whom.auth_time is not None:
            claims["auth_time"] = whom.auth_time
        if whom.email is not None:
            claims["email"] = whom.email
            claims["email_verified"] = whom.email_verified
        text = jws.signed({"alg": key.alg, "typ": TYP, "kid": key.kid}, claims, key.sign)
        if len(text) > jws.BYTES_MAX:
            raise ValueError("the roles make the token too long to be accepted")
        return IssuedToken(text, token_id, expires_at)


class TokenVerifier:
    """Signature and claims, by the clock of this machine.  Neither remembers nor asks whether
    a token was revoked: `identity/tokens/authenticator.py` does."""

    def __init__(
        self,
        ring: KeyRing,
        *,
        issuer: str,
        audience: str,
        max_life_s: int,
        clock: Clock,
    ) -> None:
        self._ring = ring
        self._issuer = issuer
        self._audience = audience
        self._max_life_s = max_life_s
        self._clock = clock
        self._headers: BoundedMemo[str, jws.Header] = BoundedMemo(_HEADERS_MAX)
        """All tokens of a key have the same, mostly.  Only of tokens whose signature held, so that
        forged ones put nothing in the place of those."""

    def verify(self, text: str, *, allow_expired: bool = False) -> Principal | Reason:
        """Who the token speaks of, or why it is not believed.

        TOKEN_MALFORMED: not a token of our form, or a name in it is missing or of another form;
        KEY_UNKNOWN: the ring does not hold its key (see `unknown_kid`);
        TOKEN_SIGNATURE_INVALID; TOKEN_CLAIMS_INVALID: not ours, not for here, or another claim
        is missing or of another type; TOKEN_EXPIRED.  `allow_expired` is for signing out: a
        token otherwise good.
        """
        headers = self._headers
        parsed = jws.parse(text, jws.BYTES_MAX, headers)
        if parsed is None:
            return Reason.TOKEN_MALFORMED
        typ = parsed.typ
        if typ is None:
            return Reason.TOKEN_MALFORMED
        key = self._ring.key(parsed.kid)
        if key is None:
            return Reason.KEY_UNKNOWN
        # CVE-2026-48523, CVE-2022-29217: what the header says chooses nothing.
        if parsed.alg != key.alg or not key.verifies(parsed.signed, parsed.signature):
            return Reason.TOKEN_SIGNATURE_INVALID
        if (part := parsed.header_part) not in headers and len(part) <= _HEADER_LETTERS_MAX:
            headers.keep(part, jws.Header(parsed.alg, typ, parsed.kid))
        claims = jws.json_object(parsed.payload)
        if claims is None or not _well_named(claims):
            return Reason.TOKEN_MALFORMED
        if not _well_typed(claims) or not self._for_here(typ, claims):
            return Reason.TOKEN_CLAIMS_INVALID
        # RFC 7519 section 4.1.4: refused on or after it; no leeway.
        if claims["exp"] <= self._clock.now() and not allow_expired:
            return Reason.TOKEN_EXPIRED
        return _principal(claims, key.kid)

    def _for_here(self, typ: str, claims: dict[str, Any]) -> bool:
        """Type and issuer exactly, our audience among its own, and times that a token of ours
        can have."""
        if typ != TYP and jws.short_type(typ) != TYP:  # RFC 9068 section 4
            return False
        # RFC 9449 section 7.2, RFC 8705 section 3: it is bound to a key of its client, of which a
        # bearer proves nothing.  An imported key may have signed one.
        if "cnf" in claims:
            return False
        # CVE-2024-53861: compared whole, and never with a list or a number.
        if claims["iss"] != self._issuer:
            return False
        # RFC 7519 section 4.1.3: one audience, or a list of which any one is enough.
        audience = claims["aud"]
        if audience != self._audience and not (_texts(audience) and self._audience in audience):
            return False
        if claims.get("user_id", claims["sub"]) != claims["sub"]:
            return False
        latest = self._clock.now() + IAT_AHEAD_S
        if claims["iat"] > latest or claims.get("nbf", 0) > latest:
            return False
        return bool(claims["exp"] - claims["iat"] <= self._max_life_s)


def acr_of(amr: Sequence[str]) -> str | None:
    """`acr` (RFC 9470 section 6.1): whether a sign-in was by more than one factor, or by a password
    alone; None for what was neither."""
    return next((method for method in ("mfa", "pwd") if method in amr), None)


def unknown_kid(text: str) -> str | None:
    """The kid of a token that `verify` answered with KEY_UNKNOWN."""
    parsed = jws.parse(text)
    return None if parsed is None else parsed.kid


_WHOLE_MAX = 2**53
"""Beyond it another reader of the same JSON may see another number (RFC 8259 section 6)."""


def _well_named(claims: dict[str, Any]) -> bool:
    """Whether every name that goes into header lines and policies has the form of one."""
    subject, roles = claims.get("sub"), claims.get("roles", [])
    if not isinstance(roles, list):
        return False
    names = [subject, claims.get("jti"), claims.get("client_id", "-"), *roles]
    if "sid" in claims:
        names.append(claims["sid"])
    elif "client_id" not in claims or claims["client_id"] != subject:
        # A client that speaks for itself has no session: its `sub` is its `client_id`.
        return False
    return are_names(names)


def _well_typed(claims: dict[str, Any]) -> bool:
    """Every other claim that is read later is there and of its type; the rest is only carried."""
    return (
        "iss" in claims
        and "aud" in claims
        and _whole(claims.get("iat"))
        and _whole(claims.get("exp"))
        and _whole(claims.get("nbf", 0))
        and _whole(claims.get("auth_time", 0))
        and _texts(claims.get("amr", []))
        and is_email(claims.get("email", "-"))
        and isinstance(claims.get("email_verified", False), bool)
    )


def _whole(value: object) -> bool:
    """A NumericDate of ours.  `True` is an int to Python: its very type is asked for."""
    return type(value) is int and 0 <= value <= _WHOLE_MAX


def _texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _principal(claims: dict[str, Any], kid: str) -> Principal:
    return Principal(
        subject=claims["sub"],
        roles=tuple(claims.get("roles", ())),
        session_id=claims.get("sid"),
        token_id=claims["jti"],
        client_id=claims.get("client_id"),
        kid=kid,
        issued_at=claims["iat"],
        expires_at=claims["exp"],
        email=claims.get("email"),
        email_verified=claims.get("email_verified", False),
        auth_time=claims.get("auth_time"),
        amr=tuple(claims.get("amr", ())),
        claims=claims,
        audience=_audience(claims["aud"]),
        granted_scopes=scopes_of(claims),
    )


def _audience(value: str | list[str]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


def scopes_of(claims: Mapping[str, Any]) -> tuple[str, ...]:
    """What a token was granted: `scope` (RFC 8693 section 4.2), or `scp` as others name it; one
    text with spaces, or a list of texts."""
    value = claims.get("scope", claims.get("scp"))
    if isinstance(value, str):
        return tuple(value.split(" ")) if value else ()
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return tuple(value)
    return ()
