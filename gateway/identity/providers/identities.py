"""Whom a provider says that somebody is, read out of its claims.

Law: an address counts as verified where the provider says so in the way that the configuration
names, and a second factor where the provider is trusted for it; everything else is a stranger's
word.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.access.attributes import LIST_MAX, AttributeType, Value
from gateway.access.issuers import ClaimError, ClaimPath, Issuer
from gateway.access.providers import Provider
from gateway.email_address import display_email, normalize_email
from gateway.identity.factors.factor_kinds import MFA
from gateway.identity.issuers.external_ids import EXTERNAL_ID_MAX, is_external_id
from gateway.identity.issuers.verifier import role_names
from gateway.identity.sessions.session_origins import FEDERATED

KNOWN_METHODS = frozenset(
    (
        "face", "fpt", "geo", "hwk", "iris", "kba", "mca", "mfa", "otp", "pin", "pop", "pwd", "rba",
        "retina", "sc", "sms", "swk", "tel", "user", "vbm", "wia",
    )
)  # fmt: skip
"""RFC 8176 section 2."""
_STRONG_CONTEXTS = frozenset(
    (
        "mfa", "phr", "phrh",
        "http://schemas.openid.net/pape/policies/2007/06/multi-factor",
        "https://refeds.org/profile/mfa",
    )
)  # fmt: skip
"""`acr` that says that there was a second factor: OpenID Connect EAP ACR Values, PAPE, REFEDS."""
_TRUE = (True, "true", "1", 1)
"""Apple writes the text, Microsoft a number: nobody means no by them."""


class IdentityRefused(Exception):
    """The provider's word is not to be believed, or says too little; the text is a sentence for
    an operator."""


@dataclass(frozen=True, slots=True)
class ProviderIdentity:
    """Somebody, as a provider knows them."""

    provider: Provider
    subject: str
    email: str | None = None
    """As it is shown; None where there is none that mail can reach."""
    email_verified: bool = False
    roles: tuple[str, ...] = ()
    attributes: Mapping[str, Value | None] = field(default_factory=dict)
    """Of those that the configuration takes from it; None where it says nothing now."""
    amr: tuple[str, ...] = (FEDERATED,)
    """Of a session that begins by it."""
    auth_time: int | None = None
    """When they signed in there, in seconds since the epoch."""
    session_id: str | None = None
    """`sid` of the session there."""
    id_token: str | None = field(default=None, repr=False)
    begun_at: int | None = None
    """When the browser was sent to the provider, as `EndedSessions` counts; None where
    nobody knows."""
    missing: str | None = None
    """Of what the configuration asks for: the claim that is not as it should be."""

    @property
    def normalized_email(self) -> str | None:
        return None if self.email is None else normalize_email(self.email)


def joined_claims(
    issuer: Issuer, claims: Mapping[str, Any], userinfo: Mapping[str, Any]
) -> dict[str, Any]:
    """Those of the ID token before those of userinfo; but whether an address is verified is said of
    the address beside it, and of none elsewhere."""
    email = issuer.email.keys[0] if isinstance(issuer.email, ClaimPath) else "email"
    reader = issuer.email_verified
    verified = reader.keys[0] if isinstance(reader, ClaimPath) else "email_verified"
    if email not in claims:
        claims = {name: value for name, value in claims.items() if name != verified}
    elif userinfo.get(email) != claims[email]:
        names = (email, verified)
        userinfo = {name: value for name, value in userinfo.items() if name not in names}
    return {**userinfo, **claims}


def identity_of(
    provider: Provider, claims: Mapping[str, Any], id_token: str | None = None
) -> ProviderIdentity:
    """Raises IdentityRefused."""
    issuer = provider.issuer
    try:
        subject = issuer.subject.read(claims)
        email = None if issuer.email is None else issuer.email.read(claims)
        verified = None if issuer.email_verified is None else issuer.email_verified.read(claims)
        roles = () if issuer.roles is None else role_names(issuer.roles.read(claims))[0]
    except ClaimError as error:
        raise IdentityRefused(str(error)) from error
    if not is_external_id(subject):
        raise IdentityRefused(
            f"{issuer.subject.text} is none of 1 to {EXTERNAL_ID_MAX} visible ASCII letters"
        )
    shown = display_email(email) if isinstance(email, str) else None
    is_verified = shown is not None and _is_true(verified)
    session_id, auth_time = claims.get("sid"), claims.get("auth_time")
    return ProviderIdentity(
        provider=provider,
        subject=str(subject),
        email=shown,
        email_verified=is_verified,
        roles=roles,
        attributes=_attributes(provider, claims),
        amr=methods(provider, claims),
        auth_time=_seconds(auth_time),
        session_id=str(session_id) if is_external_id(session_id) else None,
        id_token=id_token,
        missing=_missing(provider, claims, shown if is_verified else None),
    )


def _attributes(provider: Provider, claims: Mapping[str, Any]) -> dict[str, Value | None]:
    """A value that its attribute does not take is none; a list that holds such is what is left."""
    values: dict[str, Value | None] = {}
    for attribute, claim in provider.attributes:
        try:
            value = claim.read(claims)
        except ClaimError as error:
            raise IdentityRefused(str(error)) from error
        if attribute.type is AttributeType.LIST and isinstance(value, list | tuple):
            kept = [one for one in value if attribute.problem([one]) is None]
            value = list(dict.fromkeys(kept))[:LIST_MAX] or None
        values[attribute.name] = None if attribute.problem(value) is not None else value
    return values


def methods(provider: Provider, claims: Mapping[str, Any]) -> tuple[str, ...]:
    """`amr` of our session (RFC 8176).  Of a provider that is not trusted for second factors no
    more than that it signed somebody in: a rule that asks for a factor believes what is here."""
    if not provider.trust_mfa:
        return (FEDERATED,)
    listed = claims.get("amr")
    given = listed if isinstance(listed, list) else [listed]
    known = [one for one in given if isinstance(one, str) and one in KNOWN_METHODS]
    context = claims.get("acr")
    if isinstance(context, str) and context in _STRONG_CONTEXTS:
        known.append(MFA)
    return tuple(dict.fromkeys((*known, FEDERATED)))


def _missing(provider: Provider, claims: Mapping[str, Any], email: str | None) -> str | None:
    for required in provider.issuer.require:
        if not required.met_by(claims):
            return required.path.text
    if provider.domains:
        domain = "" if email is None else (normalize_email(email) or "").rpartition("@")[2]
        if domain not in provider.domains:
            return "email"
    return None


def _is_true(value: object) -> bool:
    return any(type(value) is type(one) and value == one for one in _TRUE)


def _seconds(value: object) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value) if 0 <= value < 2**53 else None
