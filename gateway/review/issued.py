"""Callers by the claims of another issuer's token, without the token."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.access.issuers import ABSENT, ClaimPath, Issuer, TokenUse
from gateway.access.resource_servers import resource_paths, resource_url
from gateway.access.routing.csrf import OwnOrigins
from gateway.access.snapshot import Snapshot
from gateway.identity.issuers.verifier import ForeignClaims, IssuerVerifier
from gateway.identity.tokens.access_tokens import TYP
from gateway.model import Principal, Reason

LIFE_S = 300
_YEARS_S = 10 * 366 * 86_400
"""Bounds no life: which one the settings allow, nobody knows here."""


def caller_of(
    issuer: Issuer, claims: Mapping[str, Any], snapshot: Snapshot, now: float
) -> Principal | Reason:
    """Whom a token of these claims speaks of, or why it would be refused.

    What they do not say of `iss`, `aud`, `iat` and `exp` is as a good token has it, and its
    header is such a one's.
    """
    issued_at = claims.get("iat", int(now))
    filled: dict[str, Any] = {"iss": issuer.issuer, "iat": issued_at, **claims}
    if "exp" not in filled and isinstance(issued_at, int):
        filled["exp"] = issued_at + min(LIFE_S, issuer.max_life_s or LIFE_S)
    if issuer.audience_claim.read(filled) is None and isinstance(issuer.audience_claim, ClaimPath):
        filled = _with(filled, issuer.audience_claim.keys, _every_audience(issuer, snapshot))
    if issuer.introspection is not None:
        filled.setdefault("token_type", "Bearer")
    never = "" if issuer.use is TokenUse.ACCESS else TYP
    typ = next((one for one in issuer.typ if one not in (ABSENT, never)), None)
    verifier = IssuerVerifier(
        issuer,
        max_life_s=issuer.max_life_s or _YEARS_S,
        now=lambda: now,
        resource_paths=resource_paths(snapshot.routes),
    )
    return verifier.judge(ForeignClaims(issuer.name, filled, typ, "made-up", b""))


def _every_audience(issuer: Issuer, snapshot: Snapshot) -> list[str] | str:
    """The gateway, and each resource at every host that its route names."""
    origins = OwnOrigins(snapshot.public_url)
    named = [issuer.audience[0]]
    for route in snapshot.routes:
        if route.resource_server is not None and issuer.name in route.issuers:
            named += [
                resource_url(route.resource_server, route, host, origins)
                for host in route.hosts or ("",)
            ]
    return named if len(named) > 1 else named[0]


def _with(claims: Any, keys: tuple[str, ...], value: Any) -> Any:
    """The claims with the value at this path; as they are where no path can be."""
    if not keys:
        return value
    if not isinstance(claims, Mapping):
        return claims
    first, *rest = keys
    return {**claims, first: _with(claims.get(first, {}), tuple(rest), value)}
