"""The keys of one issuer, as one worker knows them.

Law: nobody waits for an issuer but a call that brings a token of it whose key is not here, and that
one ASK_WAIT_S at most; what was fetched last goes on until it is older than `max_stale`.  However
many calls bring an unknown kid, the issuer is asked once in ASK_EVERY_S.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import structlog

from gateway.access.issuers import Issuer
from gateway.identity.issuers.discovery import (
    DISCOVERY_BYTES_MAX,
    DiscoveredEndpoints,
    discovery_url,
    read_discovery,
)
from gateway.identity.issuers.fetching import FetchedDocument, FetchFailed
from gateway.identity.issuers.jwk_set import (
    SET_BYTES_MAX,
    DocumentRefused,
    IssuerKey,
    JwkSet,
    read_jwk_set,
)
from gateway.identity.issuers.kept_keys import KeptKeys, KeptSet, source
from gateway.model import Clock, Reason

log = structlog.get_logger(__name__)

ASK_EVERY_S = 10.0
ASK_WAIT_S = 2.0
MOST_WAITING = 1_000
"""Who makes kids up must not hold connections without end."""
AGAIN_FIRST_S, AGAIN_MOST_S = 1.0, 60.0
_CLOCK_BACK_S = 300.0
"""A kept set from a later time than that ahead of us is of another clock, and of no age."""


class Documents(Protocol):
    """`fetching.Fetcher`."""

    async def get(self, url: str, ca: str | None, bytes_max: int) -> FetchedDocument:
        """Raises FetchFailed."""


@dataclass(frozen=True, slots=True)
class KeySetDependencies:
    documents: Documents
    kept: KeptKeys | None
    clock: Clock
    fetched: Callable[[str, str], None] = lambda _issuer, _outcome: None
    """Told of each fetch: `ok`, `unreachable` or `refused`."""
    removed: Callable[[frozenset[str]], None] = lambda _keys: None
    """Told which keys, by `NAME:kid`, verify no more."""
    due: Callable[[], None] = lambda: None
    """Told that `due_at` has changed."""
    believed_until: dict[str, float] = field(default_factory=dict)
    """By the name of the issuer, on the steady clock: told there too, for who asks on each call."""
    spread: Callable[[], float] = random.random
    """In [0, 1): keeps workers and nodes from asking all at once."""


async def fetch_endpoints(
    issuer: Issuer, documents: Documents
) -> tuple[DiscoveredEndpoints, float]:
    """What the issuer's discovery names, and for how many seconds it may be kept.

    Raises FetchFailed and DocumentRefused.
    """
    document = await documents.get(discovery_url(issuer), issuer.ca, DISCOVERY_BYTES_MAX)
    return read_discovery(document.body, issuer), document.fresh_s


class KeySet:
    def __init__(self, issuer: Issuer, dependencies: KeySetDependencies) -> None:
        self.issuer = issuer
        self._deps = dependencies
        self._steady = dependencies.clock.steady
        self.keys: Mapping[str, IssuerKey] = {}
        self.left_out: Sequence[str] = ()
        self.last_error: str | None = None
        """Why the last fetch brought nothing; None where it did."""
        self.due_at = -math.inf
        """When it is fetched next, on the steady clock; infinite while it is being fetched."""
        self._believe(-math.inf)
        self._asked_at = -math.inf
        self._endpoints: DiscoveredEndpoints | None = None
        self._endpoints_until = -math.inf
        self._fetching: asyncio.Task[None] | None = None
        self._waiting = 0
        self._failures = 0
        self._stopped = False
        self._take_kept()

    # --- what is known ---

    @property
    def age_s(self) -> float:
        """Since the keys were fetched; infinite where there are none."""
        return max(self._steady() - self._fetched_at, 0.0)

    def is_believed(self) -> bool:
        """Whether the keys are recent enough to judge by."""
        return self._steady() < self._stale_at

    def believed(self, kid: str) -> IssuerKey | None:
        """The key of this name, where it is here and recent enough."""
        return self.keys.get(kid) if self.is_believed() else None

    def adopt(self, issuer: Issuer) -> bool:
        """Goes on for another definition of the same issuer; False where its keys are elsewhere."""
        old = self.issuer
        if (old.name, old.issuer, old.ca) != (issuer.name, issuer.issuer, issuer.ca):
            return False
        if source(old) != source(issuer):
            return False
        if (old.introspection is None) != (issuer.introspection is None):
            return False  # what the age of the keys means is another thing then
        self.issuer = issuer
        self._believe(self._fetched_at)
        if self._fetching is None:
            self.due_at = min(self.due_at, self._fetched_at + issuer.max_stale_s / 2)
        return True

    # --- fetching ---

    def refresh(self) -> asyncio.Task[None]:
        """The fetch that is under way, begun now if there is none."""
        if self._fetching is None:
            self.due_at = math.inf
            self._fetching = asyncio.create_task(self._fetch(), name=f"issuer-{self.issuer.name}")
        return self._fetching

    async def ask(self) -> Reason:
        """Waits for what the issuer says now, where it may be asked.

        KEY_UNKNOWN where it said (or just has said) what its keys are; ISSUER_UNAVAILABLE where
        it did not: a good token must not be called bad because nobody could look.
        """
        fetching = self._fetching
        if fetching is None and self._steady() - self._asked_at >= ASK_EVERY_S:
            # A fetch that was due anyway does not count: a key may be new since.
            self._asked_at = self._steady()
            fetching = self.refresh()
        if fetching is not None:
            if self._waiting >= MOST_WAITING:
                return Reason.ISSUER_UNAVAILABLE
            self._waiting += 1
            try:
                await asyncio.wait({fetching}, timeout=ASK_WAIT_S)
            finally:
                self._waiting -= 1
            if not fetching.done():
                return Reason.ISSUER_UNAVAILABLE
        if self.last_error is None and self.is_believed():
            return Reason.KEY_UNKNOWN
        return Reason.ISSUER_UNAVAILABLE

    async def find(self, kid: str) -> IssuerKey | Reason:
        """The key of this name, asked for where it is not here; else as `ask`."""
        key = self.believed(kid)
        if key is not None:
            return key
        reason = await self.ask()
        return self.believed(kid) or reason

    def stop(self) -> None:
        """Ends a fetch that is under way; nobody is to ask again."""
        self._stopped, self.due_at = True, math.inf
        if self._fetching is not None:
            self._fetching.cancel()

    async def close(self) -> None:
        """As `stop`, and waits for the end."""
        fetching = self._fetching
        self.stop()
        if fetching is not None:
            await asyncio.wait({fetching})

    async def _fetch(self) -> None:
        try:
            document = await self._deps.documents.get(
                await self._jwks_uri(), self.issuer.ca, SET_BYTES_MAX
            )
            found = read_jwk_set(document.body)
        except FetchFailed as error:
            self._failed("unreachable", str(error))
        except DocumentRefused as error:
            self._failed("refused", str(error))
        else:
            self._succeeded(document, found)
            await self._keep(document.body)
        finally:
            self._fetching = None
            if math.isinf(self.due_at) and not self._stopped:
                self.due_at = self._steady() + AGAIN_MOST_S  # after a defect, which is logged
            self._deps.due()

    async def _jwks_uri(self) -> str:
        if self.issuer.jwks_uri is not None:
            return self.issuer.jwks_uri
        if self._endpoints is None or self._steady() >= self._endpoints_until:
            self._endpoints, fresh_s = await fetch_endpoints(self.issuer, self._deps.documents)
            self._endpoints_until = self._steady() + fresh_s
        if self._endpoints.jwks_uri is None:
            raise DocumentRefused("the discovery names no jwks_uri")
        return self._endpoints.jwks_uri

    def _succeeded(self, document: FetchedDocument, found: JwkSet) -> None:
        if self.last_error is not None:
            log.info("issuer-keys-back", issuer=self.issuer.name)
        self.last_error, self._failures = None, 0
        now = self._steady()
        # Twice before they are too old to be believed.
        fresh_s = min(document.fresh_s, self.issuer.max_stale_s / 2)
        self.due_at = now + fresh_s * (0.8 + 0.15 * self._deps.spread())
        self._take(found, now)
        self._deps.fetched(self.issuer.name, "ok")

    def _failed(self, outcome: str, why: str) -> None:
        # The keys may have moved.
        self._endpoints = None
        if self.last_error is None:
            log.warning("issuer-keys-not-fetched", issuer=self.issuer.name, why=why)
        self.last_error = why
        pause_s = min(AGAIN_FIRST_S * 2 ** min(self._failures, 10), AGAIN_MOST_S)
        self._failures += 1
        self.due_at = self._steady() + pause_s * (0.5 + 0.5 * self._deps.spread())
        self._deps.fetched(self.issuer.name, outcome)

    def _take(self, found: JwkSet, fetched_at: float) -> None:
        old, self.keys, self.left_out = self.keys, found.keys, found.left_out
        self._believe(fetched_at)
        added = [kid for kid in found.keys if kid not in old]
        # One that stands under the same kid and is another key verifies other tokens.
        gone = [kid for kid, key in old.items() if kid not in found.keys or key != found.keys[kid]]
        if added or gone:
            log.info("issuer-keys-changed", issuer=self.issuer.name, added=added, removed=gone)
        if gone:
            self._deps.removed(frozenset(f"{self.issuer.name}:{kid}" for kid in gone))

    def _believe(self, fetched_at: float) -> None:
        self._fetched_at = fetched_at
        self._stale_at = fetched_at + self.issuer.max_stale_s
        self._deps.believed_until[self.issuer.name] = self._stale_at

    # --- keeping ---

    def _take_kept(self) -> None:
        kept = self._deps.kept.read(self.issuer) if self._deps.kept is not None else None
        if kept is None:
            return
        age_s = self._deps.clock.now() - kept.fetched_at
        if not -_CLOCK_BACK_S <= age_s < self.issuer.max_stale_s:
            return
        try:
            found = read_jwk_set(kept.body)
        except DocumentRefused as error:
            log.warning("kept-issuer-keys-refused", issuer=self.issuer.name, why=str(error))
            return
        self._take(found, self._steady() - max(age_s, 0.0))

    async def _keep(self, body: bytes) -> None:
        if self._deps.kept is None:
            return
        kept = KeptSet(body, self._deps.clock.now())
        try:
            await asyncio.to_thread(self._deps.kept.write, self.issuer, kept)
        except OSError as error:
            log.warning("issuer-keys-not-kept", issuer=self.issuer.name, why=error.strerror)
