"""An issuer asked now, and a token of it judged: a row for each answer, for `gateway issuers check`
and for the console.

Law: what is asked and how is what the gateway does for its calls (`fetching`, `form_posts`): of the
addresses that the configuration and the issuer's discovery name, over TLS that was checked, with
bounds on bytes and time, and no redirect is followed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field

from gateway.access.issuers import Introspection
from gateway.identity.issuers.discovery import discovery_url
from gateway.identity.issuers.fetching import Addresses, FetchedDocument, Fetcher, FetchFailed
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
from gateway.model import Clock

CHECK_S = 20.0
"""For all of them: a document has 5 s, and an issuer two of them."""
AT_ONCE = 8
DATE_IS_OFF_S = 2.0


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


class IssuerChecks:
    def __init__(self, addresses: Addresses, clock: Clock) -> None:
        self._addresses = addresses
        self._documents = Fetcher(addresses)
        self._clock = clock

    async def check(
        self,
        verifiers: Iterable[IssuerVerifier],
        token: str | None = None,
        *,
        within_s: float = CHECK_S,
    ) -> list[CheckedIssuer]:
        """`token` is one of the only issuer, where it is given.  An issuer that is not done in
        time is away."""
        turn = asyncio.Semaphore(AT_ONCE)
        checked = [CheckedIssuer(verifier) for verifier in verifiers]
        asking = {asyncio.create_task(self._ask(one, token, turn)): one for one in checked}
        try:
            _, late = await asyncio.wait(asking, timeout=within_s) if asking else ((), ())
            for task in late:
                asking[task].is_away = True
                asking[task].tell("time", False, f"it was not done within {within_s:g} s")
        finally:
            for task in asking:
                task.cancel()
            ended = await asyncio.gather(*asking, return_exceptions=True)
        defects = [one for one in ended if isinstance(one, Exception)]
        if defects:
            raise defects[0]
        return checked

    async def _ask(
        self, checked: CheckedIssuer, token: str | None, turn: asyncio.Semaphore
    ) -> None:
        issuer = checked.verifier.issuer
        async with turn:
            if issuer.introspection is None:
                keys = await _keys(checked, self._documents, self._clock)
                if token is not None:
                    _judge_signed(checked, token, keys)
                return
            posts = FormPoster(self._addresses, issuer.ca, timeout_s=ASK_WAIT_S, at_once=1)
            introspector = Introspector(
                checked.verifier, issuer.introspection, posts, self._documents, self._clock
            )
            try:
                await _introspect(checked, introspector, issuer.introspection, token)
            finally:
                await introspector.close()


async def _keys(checked: CheckedIssuer, documents: Fetcher, clock: Clock) -> JwkSet | None:
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
        _judge_clock(checked, document, clock)
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


def _judge_clock(checked: CheckedIssuer, document: FetchedDocument, clock: Clock) -> None:
    """By the `Date` of its answer, which has no fractions and took some time to come."""
    if document.sent_at is None:
        return
    off_s = document.sent_at - clock.now()
    leeway_s = checked.verifier.issuer.leeway_s
    if abs(off_s) <= leeway_s + DATE_IS_OFF_S:
        checked.tell("clock", True, "in step with ours")
        return
    ahead = "ahead of" if off_s > 0 else "behind"
    effect = "its new tokens are refused" if off_s > 0 else "its tokens end too early here"
    told = f"it is {abs(off_s):.0f} s {ahead} ours; {leeway_s} s are the most, and {effect}"
    checked.tell("clock", False, told)


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
