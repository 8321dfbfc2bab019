"""A token of another issuer, judged from its text, the issuer's definition and the issuer's key.

Law: as for our own (`identity/tokens/access_tokens.py`), the algorithm is the key's and the
configuration's, never the token's, and nothing inside a token is followed.  Every name that comes
out of here begins with the issuer's, so that nobody is taken for somebody of ours.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from gateway.access.issuers import ABSENT, ClaimError, Issuer, RequiredClaim, TokenUse
from gateway.identity.base64url import decoded, encoded
from gateway.identity.issuers.external_ids import EXTERNAL_ID_MAX, external_name, is_external_id
from gateway.identity.issuers.jwk_set import IssuerKey
from gateway.identity.tokens import jws
from gateway.identity.tokens.access_tokens import is_email, is_name, scopes_of
from gateway.model import Principal, Reason

_WHOLE_MAX = 2**53

_OTHER_TYPES = frozenset(("logout+jwt", "secevent+jwt"))
"""OpenID Connect Back-Channel Logout 1.0 section 2.4, RFC 8417 section 2.3."""
_ACCESS_TYPE = "at+jwt"
"""RFC 9068 section 2.1."""
_ID_CLAIMS = ("at_hash", "c_hash")
"""OpenID Connect Core sections 3.1.3.6 and 3.3.2.11: of ID tokens, which are signed with the same
keys as access tokens."""
_ACCESS_CLAIMS = ("scope", "scp")
"""RFC 9068 section 2.2.3, and what others call it: no ID token says what it was granted."""
_USES: Mapping[TokenUse, Mapping[str, tuple[str, ...]]] = {
    TokenUse.ACCESS: {"typ": ("Bearer",), "token_use": ("access", "access_token")},
    TokenUse.ID: {"typ": ("ID",), "token_use": ("id",)},
}
"""What Keycloak, Amazon Cognito and Ory Hydra write into a token, where they write it."""
_CLIENT_CLAIMS = ("client_id", "azp", "appid", "cid")
"""RFC 9068 section 2.2, OpenID Connect Core section 2, and two that providers made up."""


@dataclass(frozen=True, slots=True)
class ForeignClaims:
    """What a token of an issuer says, or what the issuer says of it."""

    issuer: str
    """The name of the issuer."""
    claims: dict[str, Any]
    typ: str | None
    """Of its header."""
    kid: str
    content: bytes
    """What one without `jti` is known by."""


@dataclass(frozen=True, slots=True)
class ForeignToken(ForeignClaims):
    """A token that says it is of an issuer of the configuration; nothing of it is believed."""

    alg: str
    signature: bytes


def read_foreign_token(text: str, names: Mapping[str, str]) -> ForeignToken | None:
    """The token, where its `iss` is one of `names`: of the issuers' names by their `iss`."""
    parsed = jws.parse(text)
    claims = None if parsed is None else jws.json_object(parsed.payload)
    if parsed is None or claims is None:
        return None
    issuer = claims.get("iss")
    name = names.get(issuer) if isinstance(issuer, str) else None
    if name is None:
        return None
    # Of what is signed alone: an ECDSA signature has two spellings.
    content, signature = parsed.signed, parsed.signature
    return ForeignToken(name, claims, parsed.typ, parsed.kid, content, parsed.alg, signature)


def issuer_named_in(text: str) -> str | None:
    """The `iss` of what has the form of a signed token, whatever its header says."""
    claims = jws.json_object(decoded(text.split(".")[1])) if len(text) <= jws.BYTES_MAX else None
    issuer = None if claims is None else claims.get("iss")
    return issuer if isinstance(issuer, str) else None


@dataclass(frozen=True, slots=True)
class TokenCheck:
    """One thing that a token is asked for."""

    what: str
    problem: Callable[[ForeignClaims], str | None]
    """What is wrong, and what would be right; None where it is right."""
    refusal: Reason = Reason.TOKEN_CLAIMS_INVALID


class IssuerVerifier:
    """Judges the tokens of one issuer.  It neither remembers nor fetches."""

    def __init__(
        self,
        issuer: Issuer,
        *,
        max_life_s: int,
        now: Callable[[], float],
        resource_paths: Mapping[str, frozenset[str]] | None = None,
    ) -> None:
        """`max_life_s`: of our own tokens.  `resource_paths`: of the resources whose routes take
        an issuer's tokens, by its name."""
        self.issuer = issuer
        self._now = now
        self._max_life_s = min(issuer.max_life_s or max_life_s, max_life_s)
        self._resource_paths = (resource_paths or {}).get(issuer.name, frozenset())
        self._audience = frozenset(issuer.audience)
        kind = (
            TokenCheck("typ", self._typ)
            if issuer.introspection is None
            else TokenCheck("token_type", _token_type)
        )
        self.checks = (
            kind,
            TokenCheck("use", self._use),
            TokenCheck("cnf", _bound),
            TokenCheck(issuer.audience_claim.text, self._aud),
            *(TokenCheck(one.path.text, _required(one)) for one in issuer.require),
            TokenCheck(issuer.subject.text, self._subject),
            TokenCheck("sid", lambda token: _name_problem(token.claims, "sid")),
            TokenCheck("jti", lambda token: _name_problem(token.claims, "jti")),
            TokenCheck("roles", self._roles),
            TokenCheck("email", self._email),
            TokenCheck("iat", self._iat),
            TokenCheck("nbf", self._nbf),
            TokenCheck("life", self._life),
            TokenCheck("exp", self._exp, Reason.TOKEN_EXPIRED),
        )
        """In this order; the first that finds a problem says what the caller is answered."""

    def verify(self, token: ForeignToken, key: IssuerKey) -> Principal | Reason:
        """Who it speaks of.

        TOKEN_SIGNATURE_INVALID, TOKEN_CLAIMS_INVALID, and TOKEN_EXPIRED for one that is otherwise
        good.
        """
        return self.judge(token) if self.is_signed(token, key) else Reason.TOKEN_SIGNATURE_INVALID

    def judge(self, token: ForeignClaims) -> Principal | Reason:
        """The same, of what is surely the issuer's word."""
        for check in self.checks:
            if check.problem(token) is not None:
                return check.refusal
        return self.principal(token)

    def is_signed(self, token: ForeignToken, key: IssuerKey) -> bool:
        # CVE-2026-48523, CVE-2022-29217: what the header says chooses nothing.
        return token.alg in self.issuer.algorithms and key.verifies(
            token.alg, token.content, token.signature
        )

    def roles_of(self, claims: Mapping[str, Any]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Those that count, and those that are left out as they are no names.  ClaimError."""
        return role_names(None if self.issuer.roles is None else self.issuer.roles.read(claims))

    # --- what a token is asked for ---

    def _typ(self, token: ForeignClaims) -> str | None:
        typ = token.typ
        shown = ABSENT if typ is None else jws.short_type(typ)
        if shown in self.issuer.typ and shown not in _OTHER_TYPES:
            if shown != _ACCESS_TYPE or self.issuer.use is TokenUse.ACCESS:
                return None
            return "it is an access token; an ID token would be right"
        return f"it is {_shown(typ)}; {_one_of(self.issuer.typ)} would be right"

    def _use(self, token: ForeignClaims) -> str | None:
        # RFC 8417 section 2.2
        if "events" in token.claims:
            return "it is an event, and gives access to nothing"
        use, claims = self.issuer.use, token.claims
        granted = any(name in claims for name in _ACCESS_CLAIMS)
        # Some providers repeat the nonce in the access token that comes with the ID token.
        wrong = (
            (*_ID_CLAIMS, *(() if granted else ("nonce",)))
            if use is TokenUse.ACCESS
            else _ACCESS_CLAIMS
        )
        for name in wrong:
            if name in claims:
                return f"it has {name}, which no {use} token has"
        for name, right in _USES[use].items():
            if name in claims and claims[name] not in right:
                return f"{name} is {_shown(claims[name])}; {_one_of(right)} would be right"
        return None

    def _aud(self, token: ForeignClaims) -> str | None:
        try:
            value = self.issuer.audience_claim.read(token.claims)
        except ClaimError as error:
            return str(error)
        named = _texts(value)
        if any(one in self._audience or self._is_resource(one) for one in named):
            return None
        return (
            f"it is {_shown(value)}; one that names {_one_of(self.issuer.audience)} would be right"
        )

    def _is_resource(self, audience: str) -> bool:
        """Whether it may be the URL of a resource here.  Which one, the route that is called
        judges (`access.resource_servers`), who knows by which host it was called."""
        if not self._resource_paths or not audience.startswith(("https://", "http://")):
            return False
        try:
            parts = urlsplit(audience)
        except ValueError:
            return False
        return parts.path in self._resource_paths and not (parts.query or parts.fragment)

    def _subject(self, token: ForeignClaims) -> str | None:
        try:
            value = self.issuer.subject.read(token.claims)
        except ClaimError as error:
            return str(error)
        if is_external_id(value):
            return None
        return f"it is {_shown(value)}; 1 to {EXTERNAL_ID_MAX} visible ASCII letters would be right"

    def _roles(self, token: ForeignClaims) -> str | None:
        try:
            self.roles_of(token.claims)
        except ClaimError as error:
            return str(error)
        return None

    def _email(self, token: ForeignClaims) -> str | None:
        try:
            for reader in (self.issuer.email, self.issuer.email_verified):
                if reader is not None:
                    reader.read(token.claims)
        except ClaimError as error:
            return str(error)
        return None

    def _iat(self, token: ForeignClaims) -> str | None:
        at = _seconds(token.claims.get("iat"))
        if at is None:
            return f"it is {_shown(token.claims.get('iat'))}; whole seconds would be right"
        return self._not_ahead(at)

    def _nbf(self, token: ForeignClaims) -> str | None:
        if "nbf" not in token.claims:
            return None
        at = _seconds(token.claims["nbf"])
        if at is None:
            return f"it is {_shown(token.claims['nbf'])}; whole seconds would be right"
        return self._not_ahead(at)

    def _not_ahead(self, at: int) -> str | None:
        leeway_s = self.issuer.leeway_s
        ahead_s = at - self._now()
        if ahead_s <= leeway_s:
            return None
        return f"it is {ahead_s:.0f} s ahead of our clock; {leeway_s} s are the most"

    def _life(self, token: ForeignClaims) -> str | None:
        expires_at, issued_at = (_seconds(token.claims.get(name)) for name in ("exp", "iat"))
        if expires_at is None or issued_at is None:
            return f"exp is {_shown(token.claims.get('exp'))}; whole seconds would be right"
        if expires_at - issued_at <= self._max_life_s:
            return None
        return f"exp - iat is {expires_at - issued_at} s; {self._max_life_s} s are the most"

    def _exp(self, token: ForeignClaims) -> str | None:
        over_s = self._now() - self._expires_at(token.claims)
        return None if over_s < 0 else f"it ended {over_s + self.issuer.leeway_s:.0f} s ago"

    def _expires_at(self, claims: Mapping[str, Any]) -> int:
        """From then on it is refused (RFC 7519 section 4.1.4), the leeway included."""
        return int(claims["exp"]) + self.issuer.leeway_s

    # --- whom it speaks of ---

    def principal(self, token: ForeignClaims) -> Principal:
        """Of a token that every check found right."""
        issuer, claims, name = self.issuer, token.claims, self.issuer.name
        audience = _texts(issuer.audience_claim.read(claims))
        email = None if issuer.email is None else issuer.email.read(claims)
        verified = None if issuer.email_verified is None else issuer.email_verified.read(claims)
        client = next(
            (claims[one] for one in _CLIENT_CLAIMS if is_external_id(claims.get(one))), None
        )
        return Principal(
            subject=external_name(name, str(issuer.subject.read(claims))),
            roles=self.roles_of(claims)[0],
            session_id=external_name(name, claims["sid"]) if "sid" in claims else None,
            token_id=f"{name}:{claims.get('jti') or _text_id(token)}",
            client_id=None if client is None else f"{name}:{client}",
            kid=f"{name}:{token.kid}",
            issued_at=int(claims["iat"]),
            expires_at=self._expires_at(claims),
            email=email if is_email(email) else None,
            email_verified=verified is True and is_email(email),
            auth_time=_seconds(claims.get("auth_time")),
            amr=_texts(claims.get("amr")),
            claims=claims,
            issuer=name,
            audience=audience,
            resource_only=self._audience.isdisjoint(audience),
            granted_scopes=scopes_of(claims),
        )


def role_names(value: object) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Of a text or a list: those that are names of roles, and those that are left out."""
    listed = [value] if isinstance(value, str) else value
    if not isinstance(listed, list | tuple):
        return (), ()
    names = tuple(dict.fromkeys(one for one in listed if is_name(one)))
    return names, tuple(str(one)[:EXTERNAL_ID_MAX] for one in listed if not is_name(one))


def _token_type(token: ForeignClaims) -> str | None:
    """RFC 7662 section 2.2: what is introspected may be a refresh token, which is active too."""
    value = token.claims.get("token_type")
    if isinstance(value, str) and value.lower() == "bearer":
        return None
    return f"it is {_shown(value)}; Bearer would be right"


def _required(required: RequiredClaim) -> Callable[[ForeignClaims], str | None]:
    def problem(token: ForeignClaims) -> str | None:
        if required.met_by(token.claims):
            return None
        value = required.path.read(token.claims)
        return f"it is {_shown(value)}; {_one_of(required.values)} would be right"

    return problem


def _text_id(token: ForeignClaims) -> str:
    """For a token without `jti`."""
    return encoded(hashlib.sha256(token.content).digest())


def _name_problem(claims: Mapping[str, Any], name: str) -> str | None:
    if name not in claims or is_external_id(claims[name]):
        return None
    return (
        f"it is {_shown(claims[name])}; 1 to {EXTERNAL_ID_MAX} visible ASCII letters would be right"
    )


def _bound(token: ForeignClaims) -> str | None:
    """RFC 7800 section 3: whoever took it as a bearer token would take it from who stole it."""
    if "cnf" not in token.claims:
        return None
    return "it is bound to a key of its client (DPoP, mutual TLS), which a bearer does not prove"


def _seconds(value: object) -> int | None:
    """A NumericDate (RFC 7519 section 2) in whole seconds; a float that holds one is one."""
    if type(value) is float and value.is_integer():
        value = int(value)
    return value if type(value) is int and 0 <= value <= _WHOLE_MAX else None


def _texts(value: object) -> tuple[str, ...]:
    """One text or a list of texts (RFC 7519 section 4.1.3); empty for anything else."""
    if isinstance(value, str):
        return (value,)
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return tuple(value)
    return ()


def _shown(value: object) -> str:
    if value is None:
        return "not there"
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= 100 else f"{text[:100]}…"


def _one_of(values: tuple[Any, ...]) -> str:
    return " or ".join(map(str, values))
