"""The tokens of other issuers, for `identity.tokens.authenticator`: whose they are, and whether
they are good.

Law: a token is judged by the issuer that its `iss` names, byte for byte, and by nobody else.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace

from gateway.access.issuers import Issuer
from gateway.identity.issuers.introspection import KID, Introspector, Posts
from gateway.identity.issuers.jwk_set import IssuerKey
from gateway.identity.issuers.kept_keys import KeptKeys
from gateway.identity.issuers.key_sets import Documents, KeySet, KeySetDependencies
from gateway.identity.issuers.verifier import (
    ForeignToken,
    IssuerVerifier,
    issuer_named_in,
    read_foreign_token,
)
from gateway.identity.tokens import jws
from gateway.model import OWN_ISSUER, Clock, Principal, Reason

_OPAQUE = re.compile(r"[A-Za-z0-9._~+/-]{8,}=*")
"""RFC 6750 section 2.1."""
LOOK_EVERY_S = 60.0
"""A timer of the event loop stands still while the machine sleeps; the steady clock does not."""


@dataclass(frozen=True, slots=True)
class IssuerTokensOptions:
    own_issuer: str
    """`iss` of our own tokens, which no other issuer judges."""
    max_life_s: int


class IssuerTokens:
    """Meets `authenticator.OtherIssuers`.  One a worker; `run` is its background task."""

    def __init__(
        self,
        options: IssuerTokensOptions,
        documents: Documents,
        kept: KeptKeys | None,
        clock: Clock,
        *,
        posts: Callable[[Issuer], Posts],
        fetched: Callable[[str, str], None] = lambda _issuer, _outcome: None,
        asked: Callable[[str, str], None] = lambda _issuer, _outcome: None,
    ) -> None:
        """`posts` makes the connections by which an issuer is asked of tokens.  `fetched` is told
        of each fetch of keys, and `asked` of each such question: the issuer and what came of it
        (see `KeySetDependencies` and `Introspector`)."""
        self._options = options
        self._clock = clock
        self._kept = kept
        self._due = asyncio.Event()
        self.dropped: list[Callable[[Callable[[Principal], bool]], None]] = []
        """Called with whom to forget: whoever was verified by what verifies no more."""
        self.believed_until: dict[str, float] = {}
        self._dependencies = KeySetDependencies(
            documents,
            kept,
            clock,
            fetched=fetched,
            removed=self._forget_keys,
            due=self._due.set,
            believed_until=self.believed_until,
        )
        self._names: Mapping[str, str] = {}
        self._verifiers: Mapping[str, IssuerVerifier] = {}
        self._key_sets: dict[str, KeySet] = {}
        self._introspectors: dict[str, Introspector] = {}
        self._posts = posts
        self._asked = asked
        self._closing: set[asyncio.Task[None]] = set()

    @property
    def key_sets(self) -> Mapping[str, KeySet]:
        """By the name of the issuer."""
        return self._key_sets

    @property
    def introspectors(self) -> Mapping[str, Introspector]:
        """By the name of the issuer."""
        return self._introspectors

    def adopt(
        self,
        issuers: Mapping[str, Issuer],
        resource_paths: Mapping[str, frozenset[str]] | None = None,
    ) -> None:
        """Goes on with these: new ones are fetched, removed ones end, and what one that was
        changed had verified is forgotten."""
        old_issuers = {name: verifier.issuer for name, verifier in self._verifiers.items()}
        changed = {
            name
            for name in old_issuers.keys() | issuers.keys()
            if old_issuers.get(name) != issuers.get(name)
        }
        self._adopt_key_sets(issuers)
        self._verifiers = {
            name: IssuerVerifier(
                issuer,
                max_life_s=self._options.max_life_s,
                now=self._clock.now,
                resource_paths=resource_paths,
            )
            for name, issuer in issuers.items()
        }
        self._names = {
            issuer.issuer: name
            for name, issuer in issuers.items()
            if issuer.issuer != self._options.own_issuer
        }
        self._adopt_introspectors(changed)
        if changed:
            # Tokens of ours too: one may bear a name that is now of an issuer.
            self._forget(
                lambda principal: (
                    principal.issuer in changed
                    or (principal.issuer == OWN_ISSUER and self.is_namesake(principal))
                )
            )
        self._due.set()

    def _adopt_key_sets(self, issuers: Mapping[str, Issuer]) -> None:
        old, self._key_sets = self._key_sets, {}
        for name, issuer in issuers.items():
            dependencies = self._dependencies
            if issuer.introspection is not None:
                self.believed_until[name] = math.inf
                # What it tells of ends is signed all the same.
                if not (issuer.backchannel_logout or issuer.events):
                    continue
                dependencies = replace(dependencies, believed_until={})
            known = old.get(name)
            if known is None or not known.adopt(issuer):
                known = KeySet(issuer, dependencies)
            self._key_sets[name] = known
        for name in self.believed_until.keys() - issuers.keys():
            del self.believed_until[name]
        for name, keys in old.items():
            if keys is not self._key_sets.get(name):
                self._end(keys)

    def _adopt_introspectors(self, changed: set[str]) -> None:
        old, self._introspectors = self._introspectors, {}
        for name, verifier in self._verifiers.items():
            if verifier.issuer.introspection is None:
                continue
            known = None if name in changed else old.pop(name, None)
            if known is None:
                known = Introspector(
                    verifier,
                    verifier.issuer.introspection,
                    self._posts(verifier.issuer),
                    self._dependencies.documents,
                    self._clock,
                    asked=self._asked,
                )
            known.verifier = verifier
            self._introspectors[name] = known
        for ended in old.values():
            closing = asyncio.get_running_loop().create_task(ended.close())
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    async def run(self) -> None:
        """Fetches what is due, for as long as the worker lives."""
        while True:
            self._due.clear()
            now, next_at = self._clock.steady(), math.inf
            for keys in self._key_sets.values():
                if keys.due_at <= now:
                    keys.refresh()
                next_at = min(next_at, keys.due_at)
            with suppress(TimeoutError):
                async with asyncio.timeout(min(max(next_at - now, 0.0), LOOK_EVERY_S)):
                    await self._due.wait()

    async def close(self) -> None:
        for keys in self._key_sets.values():
            await keys.close()
        for introspector in self._introspectors.values():
            await introspector.close()
        while self._closing:
            await asyncio.wait(self._closing)

    # --- for the authenticator ---

    def read(
        self, text: str, issuers: frozenset[str]
    ) -> PresentedSignedToken | PresentedOpaqueToken | None:
        """As `authenticator.OtherIssuers` has it."""
        if not self._names:
            return None
        token = read_foreign_token(text, self._names)
        if token is not None and token.issuer not in self._introspectors:
            return PresentedSignedToken(self, token)
        if not self._introspectors:
            return None
        introspector = self._introspector_of(text, issuers)
        return None if introspector is None else PresentedOpaqueToken(introspector, text)

    def _introspector_of(self, text: str, issuers: frozenset[str]) -> Introspector | None:
        """Who is to be asked of the token.  What names an issuer is that one's; what names nobody
        is shown to one issuer, and to none where it could be another's."""
        if jws.is_compact(text):
            named = issuer_named_in(text)
            return None if named is None else self._introspectors.get(self._names.get(named, ""))
        if len(text) > jws.BYTES_MAX or _OPAQUE.fullmatch(text) is None:
            return None
        possible = [one for name, one in self._introspectors.items() if name in issuers]
        return possible[0] if len(possible) == 1 else None

    def verify(self, token: ForeignToken) -> Principal | Reason | None:
        """The verdict; None where the issuer must be asked for its keys first."""
        keys = self._key_sets.get(token.issuer)
        if keys is None:
            return Reason.TOKEN_CLAIMS_INVALID
        key = keys.believed(token.kid)
        return None if key is None else self._verifiers[token.issuer].verify(token, key)

    async def verify_asking(self, token: ForeignToken) -> Principal | Reason:
        """The verdict once the issuer has been asked; ISSUER_UNAVAILABLE where it cannot be."""
        keys = self._key_sets.get(token.issuer)
        answer = Reason.TOKEN_CLAIMS_INVALID if keys is None else await keys.ask()
        return self.verify(token) or answer

    def is_namesake(self, principal: Principal) -> bool:
        """Whether a token of ours bears a name that only an issuer's may: an imported key can sign
        what it likes."""
        if not self._verifiers:
            return False
        named = (
            principal.subject,
            principal.session_id,
            principal.token_id,
            principal.client_id,
        )
        return any(
            name is not None and name.partition(":")[0] in self._verifiers and ":" in name
            for name in named
        )

    # --- for what lasts ---

    def is_asked_about(self, principal: Principal) -> bool:
        """Meets `asked_tokens.IssuerQuestions`."""
        return principal.kid == f"{principal.issuer}:{KID}"

    async def refusal_now(self, principal: Principal, text: str, client_ip: str) -> Reason | None:
        """Why the token is good no more; TOKEN_OUTDATED where it says another caller or roles.
        None where its issuer is not asked any more: another configuration ends nothing."""
        introspector = self._introspectors.get(principal.issuer)
        if introspector is None:
            return None
        verdict = introspector.remembered(text) or await introspector.ask(text, client_ip)
        if isinstance(verdict, Reason):
            return verdict
        same = verdict.subject == principal.subject and verdict.roles == principal.roles
        return None if same else Reason.TOKEN_OUTDATED

    # --- for what an issuer tells of itself ---

    async def find(self, issuer: Issuer, kid: str) -> IssuerKey | Reason:
        """Meets `event_tokens.IssuerKeys`."""
        keys = self._key_sets.get(issuer.name)
        return Reason.ISSUER_UNAVAILABLE if keys is None else await keys.find(kid)

    # --- what is forgotten ---

    def _forget_keys(self, kids: frozenset[str]) -> None:
        self._forget(lambda principal: principal.kid in kids)

    def _forget(self, is_meant: Callable[[Principal], bool]) -> None:
        for drop in self.dropped:
            drop(is_meant)

    def _end(self, keys: KeySet) -> None:
        if self._kept is not None and keys.issuer.name not in self._key_sets:
            self._kept.remove(keys.issuer.name)
        keys.stop()


@dataclass(frozen=True, slots=True)
class PresentedOpaqueToken:
    """Meets `authenticator.PresentedToken`: its issuer alone can read it."""

    introspector: Introspector
    text: str

    @property
    def issuer(self) -> str:
        return self.introspector.issuer.name

    @property
    def lasts(self) -> bool:
        return False

    def verify(self) -> Principal | Reason | None:
        return self.introspector.remembered(self.text)

    async def verify_asking(self, client_ip: str) -> Principal | Reason:
        return await self.introspector.ask(self.text, client_ip)


@dataclass(frozen=True, slots=True)
class PresentedSignedToken:
    """Meets `authenticator.PresentedToken`: judged by what is known when it is asked."""

    tokens: IssuerTokens
    token: ForeignToken

    @property
    def issuer(self) -> str:
        return self.token.issuer

    @property
    def lasts(self) -> bool:
        return True

    def verify(self) -> Principal | Reason | None:
        return self.tokens.verify(self.token)

    async def verify_asking(self, client_ip: str) -> Principal | Reason:
        del client_ip  # however many ask, the issuer is asked once
        return await self.tokens.verify_asking(self.token)
