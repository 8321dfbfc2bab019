"""Authenticates requests: the credential verified, or cached as verified, then checked.

Law: the cache never decides.  It says "the signature and the claims of this text were valid";
the clock and the revocation replica are asked after it, on every request.  Only valid tokens
are cached, so forged ones evict nobody's; a key that ceases to verify empties the cache.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Protocol

from mypy_extensions import mypyc_attr

from gateway.identity.keys.key_ring import KeyRing
from gateway.identity.tokens.access_tokens import TokenVerifier, unknown_kid
from gateway.model import (
    OWN_ISSUER,
    OWN_ISSUERS,
    Call,
    Clock,
    Credential,
    CredentialKind,
    Principal,
    Reason,
)
from gateway.stores.protocols import StoreUnavailable

_BEARER = CredentialKind.BEARER
TOKENS_MAX = 20_000
TEXT_MAX = 16 * 1024 * 1024
"""Characters of all cached tokens together; their claims take about three times as much again."""


class Revocations(Protocol):
    """Knows what has been revoked; `revocation.replica.Replica`."""

    def refusal(self, principal: Principal) -> Reason | None:
        """Why a token that is otherwise good must not pass; None where it may."""


class PresentedToken(Protocol):
    """A token of another issuer, not yet believed."""

    @property
    def issuer(self) -> str:
        """The name of the issuer whose it says it is."""

    def verify(self) -> Principal | Reason | None:
        """The verdict; None where the issuer must be asked first."""

    @property
    def lasts(self) -> bool:
        """Whether a good verdict holds for as long as the token lives."""

    async def verify_asking(self, client_ip: str) -> Principal | Reason:
        """The verdict once the issuer has been asked, for a caller at that address;
        ISSUER_UNAVAILABLE where it cannot be."""


class OtherIssuers(Protocol):
    """Whose tokens are taken besides our own; `identity.issuers.issuer_tokens.IssuerTokens`."""

    dropped: list[Callable[[Callable[[Principal], bool]], None]]
    """Called with whom to forget: whoever was verified by what verifies no more."""

    @property
    def believed_until(self) -> Mapping[str, float]:
        """By the name of the issuer, on the steady clock: until when its tokens are believed at
        all, those that were verified before too.  One and the same mapping for ever."""

    def read(self, text: str, issuers: frozenset[str]) -> PresentedToken | None:
        """The token, where it says that it is of one of these issuers; or says nothing, and the
        route takes the `issuers` of whom one reads such tokens."""

    def is_namesake(self, principal: Principal) -> bool:
        """Whether a token of ours bears a name that only an issuer's may."""


@mypyc_attr(allow_interpreted_subclasses=True)
class NoOtherIssuers:
    """Meets `OtherIssuers`: our own tokens alone."""

    def __init__(self) -> None:
        self.dropped: list[Callable[[Callable[[Principal], bool]], None]] = []
        self.believed_until: Mapping[str, float] = {}

    def read(self, text: str, issuers: frozenset[str]) -> PresentedToken | None:
        del text, issuers
        return None

    def is_namesake(self, principal: Principal) -> bool:
        del principal
        return False


class CredentialAuthenticator(Protocol):
    """Authenticates one kind of credential other than bearer tokens (cookies, API keys).
    `RequestAuthenticator` checks expiry and revocation of the principal."""

    async def authenticate(self, credential: Credential, call: Call) -> Principal | Reason: ...


class RequestAuthenticator:
    """Authenticates requests, for `access.authorizer`.

    A credential of a kind that the route does not accept is answered as if none had come:
    the caller learns what is missing, and nothing about what came, which was not looked at.
    """

    def __init__(
        self,
        verifier: TokenVerifier,
        ring: KeyRing,
        revocations: Revocations,
        clock: Clock,
        *,
        others: Mapping[CredentialKind, CredentialAuthenticator] | None = None,
        issuers: OtherIssuers | None = None,
        tokens_max: int = TOKENS_MAX,
        text_max: int = TEXT_MAX,
    ) -> None:
        self._verifier = verifier
        self._ring = ring
        self._refusal = revocations.refusal
        self._now = clock.now
        self._steady = clock.steady
        self._others = dict(others or {})
        self._issuers = issuers or NoOtherIssuers()
        self._believed_until = self._issuers.believed_until.get
        self._cache = TokenCache(tokens_max, text_max)
        self._cached = self._cache.get
        ring.on_retirement(self.clear)
        self._issuers.dropped.append(self._cache.drop)

    def authenticate_now(
        self,
        call: Call,
        accept: frozenset[CredentialKind],
        issuers: frozenset[str] = OWN_ISSUERS,
    ) -> Principal | Reason | None:
        """As `authenticate`, where nobody has to be asked; else None."""
        credential = call.credential
        if not isinstance(credential, Credential):
            return credential or Reason.NO_CREDENTIAL
        kind = credential.kind
        if kind not in accept:
            return Reason.NO_CREDENTIAL
        if kind is not _BEARER:
            return None
        text = credential.text
        principal = self._cached(text)
        if principal is None:
            verdict = self._verify_now(text, issuers)
            if not isinstance(verdict, Principal):
                return verdict
            principal = verdict
        return self._checked(principal, issuers)

    async def authenticate(
        self,
        call: Call,
        accept: frozenset[CredentialKind],
        issuers: frozenset[str] = OWN_ISSUERS,
    ) -> Principal | Reason:
        verdict = self.authenticate_now(call, accept, issuers)
        if verdict is not None:
            return verdict
        credential = call.credential
        assert isinstance(credential, Credential)
        if credential.kind is _BEARER:
            verdict = await self._verify_asking(credential.text, issuers, call.client_ip)
        else:
            verdict = await self._authenticate_other(credential, call)
        return self._checked(verdict, issuers) if isinstance(verdict, Principal) else verdict

    def clear(self) -> None:
        """Drop every cached token; each is verified again when it is next presented."""
        self._cache.clear()

    def sweep(self) -> None:
        """Drop expired tokens; called once a minute."""
        self._cache.sweep(self._now())

    def __len__(self) -> int:
        return len(self._cache)

    def _checked(self, principal: Principal, issuers: frozenset[str]) -> Principal | Reason:
        """What is asked on every call, of whatever was cached."""
        if (issuer := principal.issuer) not in issuers:
            return Reason.TOKEN_CLAIMS_INVALID
        if issuer != OWN_ISSUER and self._believed_until(issuer, 0.0) <= self._steady():
            return Reason.ISSUER_UNAVAILABLE
        if principal.expires_at <= self._now():
            return Reason.TOKEN_EXPIRED
        return self._refusal(principal) or principal

    def _verify_now(self, text: str, issuers: frozenset[str]) -> Principal | Reason | None:
        """The verdict on a token that is not cached, which is cached where it lasts; None where
        a store or its issuer must be asked."""
        verdict: Principal | Reason | None
        presented = self._issuers.read(text, issuers)
        if presented is None:
            verdict = self._verified_own(text)
            if verdict is Reason.KEY_UNKNOWN:
                return None
        elif presented.issuer not in issuers:
            return Reason.TOKEN_CLAIMS_INVALID
        else:
            verdict = presented.verify()
            if not presented.lasts:
                return verdict
        if isinstance(verdict, Principal):
            self._cache.keep(text, verdict)
        return verdict

    async def _verify_asking(
        self, text: str, issuers: frozenset[str], client_ip: str
    ) -> Principal | Reason:
        """The verdict where `_verify_now` had none."""
        presented = self._issuers.read(text, issuers)
        await asyncio.sleep(0)  # decisions are begun outside a task; a wait needs one
        if presented is None:
            verdict = await self._verify_own(text)
        else:
            verdict = await presented.verify_asking(client_ip)
            if not presented.lasts:
                return verdict
        if isinstance(verdict, Principal):
            self._cache.keep(text, verdict)
        return verdict

    def _verified_own(self, text: str) -> Principal | Reason:
        verdict = self._verifier.verify(text)
        if isinstance(verdict, Principal) and self._issuers.is_namesake(verdict):
            return Reason.TOKEN_CLAIMS_INVALID
        return verdict

    async def _verify_own(self, text: str) -> Principal | Reason:
        """A token of ours under a key that is not known here."""
        try:
            key = await self._ring.find(unknown_kid(text) or "")
        except StoreUnavailable as error:
            # Not 401: a good token must not be called bad because nobody could look.
            return error.reason
        return Reason.KEY_UNKNOWN if key is None else self._verified_own(text)

    async def _authenticate_other(self, credential: Credential, call: Call) -> Principal | Reason:
        authenticator = self._others.get(credential.kind)
        if authenticator is None:
            return Reason.NO_CREDENTIAL
        await asyncio.sleep(0)  # as above
        return await authenticator.authenticate(credential, call)


class TokenCache:
    """Token text → principal, in two generations: what was not asked for while the younger
    one filled up is forgotten, all of it in one assignment.

    The key is the whole text, signature included (CVE-2026-33496), and the two generations
    together hold at most `tokens_max` texts of `text_max` characters.
    """

    def __init__(self, tokens_max: int, text_max: int) -> None:
        self._young: dict[str, Principal] = {}
        self._old: dict[str, Principal] = {}
        self._young_text = 0
        self._tokens_max = max(1, tokens_max // 2)
        self._text_max = text_max // 2

    def get(self, text: str) -> Principal | None:
        principal = self._young.get(text)
        if principal is None and (principal := self._old.get(text)) is not None:
            self.keep(text, principal)
        return principal

    def keep(self, text: str, principal: Principal) -> None:
        if len(self._young) >= self._tokens_max or self._young_text + len(text) > self._text_max:
            self._old, self._young, self._young_text = self._young, {}, 0
        self._young[text] = principal
        self._young_text += len(text)

    def clear(self) -> None:
        self._young, self._old, self._young_text = {}, {}, 0

    def drop(self, is_meant: Callable[[Principal], bool]) -> None:
        """Forgets the tokens of these principals."""
        self._hold_those(lambda principal: not is_meant(principal))

    def sweep(self, now: float) -> None:
        self._hold_those(lambda principal: principal.expires_at > now)

    def _hold_those(self, lasts: Callable[[Principal], bool]) -> None:
        self._old = {t: p for t, p in self._old.items() if lasts(p)}
        self._young = {t: p for t, p in self._young.items() if lasts(p)}
        self._young_text = sum(map(len, self._young))

    def __len__(self) -> int:
        return len(self._young.keys() | self._old.keys())
