"""What `gateway issuers check` asks of an issuer, and of a token: a row for each answer."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field

from gateway.access.issuers import Introspection
from gateway.edge.upstream.resolver import SystemResolver
from gateway.identity.issuers.discovery import discovery_url
from gateway.identity.issuers.fetching import Fetcher, FetchFailed
from gateway.identity.issuers.form_posts import FormPoster, PostRefused
from gateway.identity.issuers.introspection import ASK_WAIT_S, KID, Introspector
from gateway.identity.issuers.jwk_set import SET_BYTES_MAX, DocumentRefused, JwkSet, read_jwk_set
from gateway.identity.issuers.key_sets import fetch_endpoints
from gateway.identity.issuers.verifier import (
    ForeignClaims,
    ForeignToken,
    IssuerVerifier,
    read_foreign_token,
)
from gateway.model import SystemClock


@dataclass(frozen=True, slots=True)
class CheckedRow:
    issuer: str
    check: str
    good: bool | None
    """None for what is only told."""
    detail: str


@dataclass(slots=True)
class CheckedIssuer:
    """What came of one issuer."""

    verifier: IssuerVerifier
    rows: list[CheckedRow] = field(default_factory=list)
    is_away: bool = False

    def tell(self, check: str, good: bool | None, detail: str) -> None:
        self.rows.append(CheckedRow(self.verifier.issuer.name, check, good, detail))


async def check_issuers(
    verifiers: Iterable[IssuerVerifier], token: str | None
) -> list[CheckedIssuer]:
    """`token` is one of the only issuer, where it is given."""
    return await asyncio.gather(*(_checked(verifier, token) for verifier in verifiers))


async def _checked(verifier: IssuerVerifier, token: str | None) -> CheckedIssuer:
    checked = CheckedIssuer(verifier)
    documents = Fetcher(SystemResolver().addresses)
    introspection = verifier.issuer.introspection
    if introspection is None:
        keys = await _keys(checked, documents)
        if token is not None:
            _judge_signed(checked, token, keys)
        return checked
    posts = FormPoster(
        SystemResolver().addresses, verifier.issuer.ca, timeout_s=ASK_WAIT_S, at_once=1
    )
    introspector = Introspector(verifier, introspection, posts, documents, SystemClock())
    try:
        await _introspect(checked, introspector, introspection, token)
    finally:
        await introspector.close()
    return checked


async def _keys(checked: CheckedIssuer, documents: Fetcher) -> JwkSet | None:
    issuer, asked, keys = checked.verifier.issuer, "discovery", None
    try:
        url = issuer.jwks_uri
        if url is None:
            endpoints, _ = await fetch_endpoints(issuer, documents)
            checked.tell("discovery", True, discovery_url(issuer))
            url = endpoints.jwks_uri
        asked = "keys"
        if url is None:
            raise DocumentRefused("the discovery names no jwks_uri")
        document = await documents.get(url, issuer.ca, SET_BYTES_MAX)
        keys = read_jwk_set(document.body)
        checked.tell("keys", True, f"{url}, to be kept for {document.fresh_s:.0f} s")
    except FetchFailed as error:
        checked.is_away = True
        checked.tell(asked, False, str(error))
    except DocumentRefused as error:
        checked.tell(asked, False, str(error))
    if keys is not None:
        for key in keys.keys.values():
            usable = [alg for alg in key.algorithms if alg in issuer.algorithms]
            detail = f"{key.kind}, for {', '.join(usable) or 'no alg that is taken'}"
            checked.tell(f"key {key.kid}", bool(usable) or None, detail)
        for left_out in keys.left_out:
            checked.tell("left out", None, left_out)
    return keys


async def _introspect(
    checked: CheckedIssuer,
    introspector: Introspector,
    introspection: Introspection,
    token: str | None,
) -> None:
    """Without a token one is asked of that nobody has given: it tells whether we may ask."""
    issuer, text = introspector.issuer, token or "a.token.of.nobody"
    try:
        claims = await introspector.introspected(text)
    except PostRefused as error:
        checked.tell("introspection", False, f"{error}, to client_id {introspection.client_id}")
        return
    except FetchFailed as error:
        checked.is_away = True
        checked.tell("introspection", False, str(error))
        return
    except DocumentRefused as error:
        checked.tell("introspection", False, str(error))
        return
    checked.tell("introspection", True, f"it answers client_id {introspection.client_id}")
    if token is None:
        return
    is_active = claims.get("active") is True
    checked.tell("active", is_active, "" if is_active else "the issuer says that it is not")
    named = claims.get("iss", issuer.issuer)
    if is_active and named != issuer.issuer:
        checked.tell("iss", False, f"it is {named}; {issuer.issuer} would be right")
    elif is_active:
        _judge(checked, ForeignClaims(issuer.name, claims, None, KID, text.encode()))


def _judge_signed(checked: CheckedIssuer, text: str, keys: JwkSet | None) -> None:
    issuer = checked.verifier.issuer
    token = read_foreign_token(text, {issuer.issuer: issuer.name})
    if token is None:
        told = "its header has no alg and kid, or brings a key or an extension"
        checked.tell("header", False, told)
        return
    _judge_signature(checked, token, keys)
    _judge(checked, token)


def _judge_signature(checked: CheckedIssuer, token: ForeignToken, keys: JwkSet | None) -> None:
    if keys is None:
        checked.tell("signature", None, "not judged: the keys of the issuer are not there")
        return
    key = keys.keys.get(token.kid)
    if key is None:
        checked.tell("kid", False, f"it is {token.kid}; the issuer publishes no such key")
        return
    checked.tell("kid", True, token.kid)
    is_signed = checked.verifier.is_signed(token, key)
    wanted = " or ".join(checked.verifier.issuer.algorithms)
    told = f"it is none of this key with {token.alg}; {wanted} would be right"
    checked.tell("signature", is_signed, token.alg if is_signed else told)


def _judge(checked: CheckedIssuer, token: ForeignClaims) -> None:
    problems = {one.what: one.problem(token) for one in checked.verifier.checks}
    for what, problem in problems.items():
        checked.tell(what, problem is None, problem or "")
    if any(problems.values()):
        return
    principal = checked.verifier.principal(token)
    told = {
        "user.id": principal.subject,
        "user.roles": ", ".join(principal.roles) or "none",
        "roles left out": ", ".join(checked.verifier.roles_of(token.claims)[1]),
        "user.email": principal.email or "",
        "user.session_id": principal.session_id or "",
        "client": principal.client_id or "",
        "user.scopes": ", ".join(principal.granted_scopes),
        "only for": "the resources that it names" if principal.resource_only else "",
    }
    for what, detail in told.items():
        if detail:
            checked.tell(what, None, detail)
