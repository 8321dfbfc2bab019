"""One round trip to a provider and back, sealed in a cookie of the browser that makes it.

Law: what comes back counts in the browser that was sent, for the provider that it was sent to, once
and within ten minutes.  `state`, `nonce` and the verifier of PKCE are drawn here, and the
provider is told of the last its hash alone; nothing is stored before the browser comes back.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field

from gateway.identity.sealed_tokens import SealedTokens
from gateway.model import Clock
from gateway.stores.protocols import NonceStore

TRIP_COOKIE = "__Host-provider"
TRIP_TTL_S = 600
"""Time enough to sign in there, with a second factor and a new password."""
TRIPS_MAX = 5
"""Under way in one browser: the oldest is forgotten for a sixth."""
COOKIE_MAX = 3_500
"""Characters of the cookie's value; browsers keep 4,096 with its name and attributes."""
TARGET_MAX = 2_048
"""Characters of where a trip leads in the end."""

_KIND, _PERMIT = b"round trip", b"link permit"


@dataclass(frozen=True, slots=True)
class LinkRequest:
    """Asked for by the owner of an account, in a session."""

    account_id: str
    session_id: str


@dataclass(frozen=True, slots=True)
class RoundTrip:
    provider: str
    """Its `name_and_issuer`."""
    return_to: str
    """As `ReturnTargets` sealed it; empty for `/`."""
    link: LinkRequest | None = None
    """None: somebody signs in."""
    max_age_s: int | None = None
    """How fresh the sign-in at the provider must be."""
    begun_at: int | None = None
    """As of `ProviderIdentity`."""
    state: str = field(default="", repr=False)
    nonce: str = field(default="", repr=False)
    verifier: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class BegunTrip:
    trip: RoundTrip
    cookie: str = field(repr=False)
    """The value of the `Set-Cookie` line."""


class RoundTrips:
    def __init__(self, key: bytes, nonces: NonceStore, clock: Clock) -> None:
        """`key` is `derived_key(secret, KeyPurpose.PROVIDER)`."""
        self._sealed = SealedTokens(key)
        self._nonces = nonces
        self._now = clock.now

    def begin(self, trip: RoundTrip, cookie: str) -> BegunTrip:
        """`cookie` is what the browser has of trips under way; `trip` says where to and why."""
        begun = RoundTrip(
            trip.provider,
            trip.return_to if len(trip.return_to) <= TARGET_MAX else "",
            trip.link,
            trip.max_age_s,
            trip.begun_at,
            # 256 bits each; RFC 7636 section 4.1: 43 characters.
            state=secrets.token_urlsafe(32),
            nonce=secrets.token_urlsafe(32),
            verifier=secrets.token_urlsafe(32),
        )
        sealed = self._sealed.seal(_KIND, self._parts(begun))
        others = [one for one in _sealed_in(cookie) if self._opened(one) is not None]
        return BegunTrip(begun, _set_cookie([*others, sealed]))

    async def end(self, state: str, provider: str, cookie: str) -> RoundTrip | None:
        """The trip of this browser that the provider was sent with `state`, for the first time;
        None for any other.  Raises StoreUnavailable."""
        for sealed in _sealed_in(cookie):
            trip = self._opened(sealed)
            if trip is None or not hmac.compare_digest(trip.state.encode(), state.encode()):
                continue
            # A provider that is mixed up with another (RFC 9207) has no trip here.
            if trip.provider != provider:
                return None
            is_first = await self._nonces.claim(f"provider:{trip.state}", TRIP_TTL_S)
            return trip if is_first else None
        return None

    def permit(self, provider: str, session_id: str) -> str:
        """Lets the session link the provider with its account: it stands in a page of ours, which
        no other site reads."""
        return self._sealed.seal(_PERMIT, [provider, session_id, int(self._now()) + TRIP_TTL_S])

    def permits(self, permit: str, provider: str, session_id: str) -> bool:
        """Whether it is one for this session, and not over."""
        match self._sealed.open(_PERMIT, permit):
            case [str(named), str(session), int(expires_at)]:
                return (named, session) == (provider, session_id) and expires_at > self._now()
        return False

    def without(self, state: str, cookie: str) -> str:
        """The value of the `Set-Cookie` line that forgets a trip that is over."""
        kept = []
        for sealed in _sealed_in(cookie):
            trip = self._opened(sealed)
            if trip is not None and trip.state != state:
                kept.append(sealed)
        return _set_cookie(kept)

    def _parts(self, trip: RoundTrip) -> Sequence[object]:
        link = [] if trip.link is None else [trip.link.account_id, trip.link.session_id]
        expires_at = int(self._now()) + TRIP_TTL_S
        drawn = [trip.state, trip.nonce, trip.verifier]
        return [
            trip.provider,
            trip.return_to,
            link,
            trip.max_age_s,
            drawn,
            expires_at,
            trip.begun_at,
        ]

    def _opened(self, sealed: str) -> RoundTrip | None:
        """None for what was not sealed here, or is over."""
        match self._sealed.open(_KIND, sealed):
            case [
                str(provider),
                str(return_to),
                list(link),
                int() | None as max_age_s,
                [str(state), str(nonce), str(verifier)],
                int(expires_at),
                int() | None as begun_at,
            ] if expires_at > self._now():
                request = LinkRequest(*link) if link else None
                return RoundTrip(
                    provider, return_to, request, max_age_s, begun_at, state, nonce, verifier
                )
        return None


def _sealed_in(cookie: str) -> list[str]:
    """The trips that a cookie of ours may hold: of one that a stranger made up no more is tried."""
    return [one for one in cookie.split(".", TRIPS_MAX)[:TRIPS_MAX] if one]


def _set_cookie(sealed: Sequence[str]) -> str:
    """Only this host can set it, and only over TLS (RFC 6265bis section 4.1.3.2).  `Lax`: the
    browser comes back from another site, by a navigation."""
    kept = list(sealed[-TRIPS_MAX:])
    while len(kept) > 1 and len(".".join(kept)) > COOKIE_MAX:
        kept.pop(0)
    life_s = TRIP_TTL_S if kept else 0
    value = ".".join(kept)
    return f"{TRIP_COOKIE}={value}; Max-Age={life_s}; Path=/; Secure; HttpOnly; SameSite=Lax"
