"""ID tokens judged (OpenID Connect Core section 3.1.3.7), on authlib's claims.

Law: as for the tokens of issuers, the algorithm is the key's and the configuration's, never the
token's, and nothing inside a token is followed.  It is for our client alone, of this very sign-in
(`nonce`) and of this very access token (`at_hash`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from gateway.access.issuers import Issuer
from gateway.access.providers import Provider
from gateway.identity.issuers.event_tokens import SignatureKey
from gateway.identity.providers.identities import IdentityRefused
from gateway.identity.providers.round_trips import RoundTrip
from gateway.identity.tokens import jws
from gateway.model import Reason

ID_TOKEN_BYTES_MAX = 32 * 1024
"""One that names every group of somebody is long."""


class ProviderKeys(Protocol):
    async def find(self, issuer: Issuer, kid: str, jwks_uri: str) -> SignatureKey | Reason:
        """The provider's key of this name; KEY_UNKNOWN, or ISSUER_UNAVAILABLE while its keys
        cannot be had."""


class ProviderUnavailable(Exception):
    """The provider does not answer; the text is a sentence for an operator."""


async def read_id_token(
    provider: Provider,
    text: str,
    trip: RoundTrip,
    access_token: str | None,
    *,
    keys: ProviderKeys,
    jwks_uri: str,
    now: float,
) -> dict[str, Any]:
    """The claims of one that the provider signed for this sign-in.

    Raises IdentityRefused and ProviderUnavailable.
    """
    parsed = jws.parse(text, ID_TOKEN_BYTES_MAX)
    claims = None if parsed is None else jws.json_object(parsed.payload)
    if parsed is None or claims is None:
        raise IdentityRefused("the ID token is no signed JWS of JSON objects with a kid")
    if parsed.typ is not None and jws.short_type(parsed.typ) != "jwt":
        raise IdentityRefused("the typ of the ID token is another")
    if parsed.alg not in provider.issuer.algorithms:
        raise IdentityRefused(
            f"the ID token is signed with {parsed.alg[:20]}, which is not among the algorithms"
        )
    key = await keys.find(provider.issuer, parsed.kid, jwks_uri)
    if key is Reason.KEY_UNKNOWN:
        raise IdentityRefused("the ID token is signed with a key that the provider does not name")
    if isinstance(key, Reason):
        raise ProviderUnavailable("its keys cannot be had")
    if not key.verifies(parsed.alg, parsed.signed, parsed.signature):
        raise IdentityRefused("the signature of the ID token does not hold")
    # RFC 8417 section 2.2: an event is signed with the same key, and is nobody's sign-in.
    if "events" in claims:
        raise IdentityRefused("the ID token is an event")
    _validate(provider, claims, trip, {"alg": parsed.alg}, access_token, now=now)
    return claims


def _validate(
    provider: Provider,
    claims: Mapping[str, Any],
    trip: RoundTrip,
    header: Mapping[str, Any],
    access_token: str | None,
    *,
    now: float,
) -> None:
    from authlib.oidc.core import CodeIDToken
    from joserfc.errors import JoseError

    token = CodeIDToken(
        dict(claims),
        dict(header),
        options={
            "iss": {"essential": True, "value": provider.issuer.issuer},
            "aud": {"essential": True, "value": provider.client_id},
            "sub": {"essential": True},
            "nonce": {"essential": True, "value": trip.nonce},
        },
        params={
            "client_id": provider.client_id,
            "nonce": trip.nonce,
            "access_token": access_token,
            "max_age": trip.max_age_s is not None,
        },
    )
    leeway_s = provider.issuer.leeway_s
    try:
        token.validate(now=int(now), leeway=leeway_s)
    except JoseError as error:
        raise IdentityRefused(f"the ID token is refused: {error.description or error.error}") from (
            error
        )
    except (TypeError, ValueError, AttributeError, OverflowError) as error:
        raise IdentityRefused("the ID token has a claim of another type") from error
    if trip.max_age_s is not None and claims["auth_time"] + trip.max_age_s + leeway_s < now:
        raise IdentityRefused("the sign-in at the provider is older than was asked for")
