"""Whose tokens a configuration takes besides our own, and what a route is as an OAuth resource.

Definitions alone: `config/issuers.py` reads them, `identity/issuers/` judges tokens by them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from gateway.access.secret_text import SecretText
from gateway.model import NOWHERE, SourceLocation

ABSENT = "absent"
"""Among the `typ` of an issuer: a token whose header has none (RFC 7519 section 5.1)."""


class ClaimError(Exception):
    """An expression over claims could not be evaluated; the text is a sentence."""


class ClaimReader(Protocol):
    """Where in the claims of a token something stands."""

    @property
    def text(self) -> str:
        """As it is written in the configuration."""

    def read(self, claims: Mapping[str, Any]) -> Any:
        """The value; None where there is none.  Raises ClaimError."""


@dataclass(frozen=True, slots=True)
class ClaimPath:
    """`claims.realm_access.roles`, `claims["https://example.com/roles"]`."""

    text: str
    keys: tuple[str, ...]

    def read(self, claims: Mapping[str, Any]) -> Any:
        value: Any = claims
        for key in self.keys:
            if not isinstance(value, Mapping):
                return None
            value = value.get(key)
        return value


SUBJECT = ClaimPath("claims.sub", ("sub",))
AUDIENCE = ClaimPath("claims.aud", ("aud",))


@dataclass(frozen=True, slots=True)
class RequiredClaim:
    """A claim that a token must have, and the values of which one is enough."""

    path: ClaimPath
    values: tuple[str | int | float | bool, ...]

    def met_by(self, claims: Mapping[str, Any]) -> bool:
        """Whether the claim is one of the values, or a list that holds one; `1`, `"1"` and `true`
        are three values."""
        claim = self.path.read(claims)
        given = claim if isinstance(claim, list) else [claim]
        return any(
            type(one) is type(value) and one == value for one in given for value in self.values
        )


class TokenUse(StrEnum):
    """What tokens of an issuer are taken; `token:` in the configuration."""

    ACCESS = "access"
    ID = "id"
    """ID tokens (OpenID Connect Core section 2), where a provider's access tokens are opaque."""


@dataclass(frozen=True, slots=True)
class ClientAssertionKey:
    """The key of `private_key_jwt` (RFC 7523): a PEM text, and what it signs with."""

    pem: SecretText
    alg: str
    kid: str | None = None


@dataclass(frozen=True, slots=True)
class Introspection:
    """RFC 7662: the issuer itself is asked whether a token is good."""

    client_id: str
    secret: SecretText | None
    """For `client_secret_basic`; else `key` is set, for `private_key_jwt`."""
    key: ClientAssertionKey | None = None
    endpoint: str | None = None
    """None: what the issuer's discovery names."""
    cache_s: int = 0
    """How long an active answer may be remembered."""


@dataclass(frozen=True, slots=True)
class Issuer:
    """An identity provider whose tokens are taken.  Equal ones judge every token alike."""

    name: str
    issuer: str
    """`iss`, compared byte for byte."""
    audience: tuple[str, ...]
    """A token that names one of them in `aud` is for us."""
    audience_claim: ClaimReader = AUDIENCE
    """Where a provider says it elsewhere, such as Amazon Cognito in `client_id`."""
    use: TokenUse = TokenUse.ACCESS
    algorithms: tuple[str, ...] = ("RS256",)
    """Asymmetric ones alone, by their names of RFC 7518 and RFC 8037."""
    typ: tuple[str, ...] = ("at+jwt", "jwt")
    """In lower case, without `application/`; may hold ABSENT."""
    subject: ClaimReader = SUBJECT
    roles: ClaimReader | None = None
    email: ClaimReader | None = None
    email_verified: ClaimReader | None = None
    require: tuple[RequiredClaim, ...] = ()
    leeway_s: int = 10
    max_life_s: int | None = None
    """Longest `exp - iat`; None: that of our own tokens, which bounds every issuer's."""
    discovery: str | None = None
    """The URL of the metadata; None: what OpenID Connect Discovery makes of `issuer`."""
    jwks_uri: str | None = None
    """None: what the discovery names."""
    ca: str | None = None
    """A file of authorities that vouch for the issuer's server; None: the system's."""
    max_stale_s: int = 86_400
    """Keys that were fetched longer ago are believed no more."""
    introspection: Introspection | None = None
    """Set: tokens are judged by asking the issuer, and no keys are fetched."""
    backchannel_logout: bool = False
    events: bool = False
    event_audience: tuple[str, ...] = ()
    """Whom logout tokens and events name in `aud`; empty: `audience`."""
    location: SourceLocation = field(default=NOWHERE, compare=False)
    ca_location: SourceLocation = field(default=NOWHERE, compare=False)
    """Where `ca` is written."""


@dataclass(frozen=True, slots=True)
class ResourceServer:
    """A route as a protected resource of OAuth (RFC 9728)."""

    path: str
    """Of the resource's URL; routes that name the same one are one resource."""
    authorization_servers: tuple[str, ...]
    scopes: tuple[str, ...] = ()
    """A token needs each of them (RFC 6750 section 3.1)."""
    documentation: str | None = None
    name: str | None = None
