"""CAPTCHA: a proof of work (ALTCHA, version 2) that this gateway sets and checks itself.

Law: a solution is good once, until its challenge expires.  The challenge travels whole and
signed, so nothing is kept of those that nobody solves; the nonce of one that was solved is
kept until it would have expired, in a store that every worker asks.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import json
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import altcha

from gateway.model import Clock
from gateway.stores.protocols import NonceStore, StoreUnavailable

_LONGEST = 4096
_ALGORITHM = "PBKDF2/SHA-256"


class FallbackNonceStore:
    """The shared store, and this worker's memory while that is unavailable: a solution is then
    valid once on each worker, which is not worth an outage for a second of work."""

    def __init__(self, shared: NonceStore, clock: Clock, *, most: int = 50_000) -> None:
        self._shared = shared
        self._clock = clock
        self._most = most
        self._own: OrderedDict[str, float] = OrderedDict()

    async def claim(self, key: str, ttl_s: int) -> bool:
        if key in self._own:
            return False
        try:
            return await self._shared.claim(key, ttl_s)
        except StoreUnavailable:
            return self._claim_locally(key, ttl_s)

    def _claim_locally(self, key: str, ttl_s: int) -> bool:
        now = self._clock.steady()
        while self._own and (next(iter(self._own.values())) <= now or len(self._own) >= self._most):
            self._own.popitem(last=False)
        self._own[key] = now + ttl_s
        return True


@dataclass(frozen=True, slots=True)
class CaptchaOptions:
    key: bytes
    """`derived_key(secret, KeyPurpose.CAPTCHA)`."""
    cost: int = 10_000
    """PBKDF2 rounds of one try: 3 ms of this machine when a solution is checked."""
    prefix: str = "00"
    """What the derived key must begin with: 256 tries on average, under a second."""
    life_s: int = 300


class Captcha:
    """Sets challenges and checks solutions."""

    def __init__(self, options: CaptchaOptions, nonces: NonceStore, clock: Clock) -> None:
        self._options = options
        self._nonces = nonces
        self._clock = clock

    def challenge(self) -> Mapping[str, Any]:
        """The JSON that the ALTCHA widget reads."""
        challenge = altcha.create_challenge(
            _ALGORITHM,
            self._options.cost,
            key_prefix=self._options.prefix,
            expires_at=int(self._clock.now()) + self._options.life_s,
            hmac_secret=self._options.key,
        )
        members: dict[str, Any] = challenge.to_dict()
        return members

    async def passed(self, text: str) -> bool:
        """Whether `text` (base64 of the widget's JSON) is a solution that nobody used before;
        it is used by this.  Raises StoreUnavailable: one that cannot be marked is not taken.
        """
        payload = _payload(text)
        if payload is None:
            return False
        # PBKDF2 lets other threads run; a forged challenge never gets so far, as its
        # signature is judged before any round of a cost that it claims.
        result = await asyncio.to_thread(altcha.verify_solution, payload, self._options.key)
        expires_at = payload.challenge.parameters.expires_at
        if not result.verified or type(expires_at) is not int:
            return False
        left_s = expires_at - self._clock.now()
        if left_s <= 0:
            return False
        nonce = payload.challenge.parameters.nonce
        key = "captcha:" + hashlib.sha256(nonce.encode()).hexdigest()[:32]
        return await self._nonces.claim(key, int(left_s) + 5)


def _payload(text: str) -> altcha.Payload | None:
    """None for what no widget would send."""
    if len(text) > _LONGEST:
        return None
    try:
        parsed = json.loads(base64.b64decode(text, validate=True))
        challenge, solution = parsed["challenge"], parsed["solution"]
        if not isinstance(challenge["parameters"], dict) or not isinstance(solution, dict):
            return None
        payload = altcha.Payload(
            altcha.Challenge.from_dict(challenge), altcha.Solution.from_dict(solution)
        )
    except (binascii.Error, ValueError, KeyError, TypeError, RecursionError):
        return None
    parameters = payload.challenge.parameters
    # What is signed is JavaScript's text, to which 10000 and 10000.0 are one number; what
    # derives the key takes whole numbers alone.
    whole = all(type(number) is int for number in (parameters.cost, parameters.key_length))
    return payload if whole else None
