"""How often one and the same credential may be signed out.

A sign-out may be repeated until it is answered 204, also with a token that has ended: so it is
never refused as revoked, and each repeat asks SQL.  Nobody needs more than one a second.
"""

from __future__ import annotations

import hashlib

from gateway.access.definitions import Limit, LimitKey, Scope
from gateway.model import Clock
from gateway.rate_limit.limiter import LocalCounts

A_SECOND = 1.0
AT_ONCE = 10
_REMEMBERED = 10_000


class SignOutLimit:
    """Counts in this worker's memory, by a hash of the credential."""

    def __init__(self, clock: Clock) -> None:
        limit = Limit("sign-outs", LimitKey.GLOBAL, A_SECOND, AT_ONCE, Scope.LOCAL)
        self._counts = LocalCounts(limit, capacity=_REMEMBERED)
        self._steady = clock.steady

    def wait_s(self, credential: str) -> float:
        """Seconds to wait; 0.0 where it may be asked now."""
        key = hashlib.blake2b(credential.encode("utf-8", "replace"), digest_size=16).hexdigest()
        return max(-self._counts.take(key, self._steady()), 0.0)
