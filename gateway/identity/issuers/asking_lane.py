"""How many questions an issuer is asked at a time, and when it is left alone.

Law: only a question that had its whole time says that the issuer fails; anything that it answers
says that it is there.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

FAILURES_MOST = 5
"""In a row; then it is left alone for REST_S, and tried with one token."""
REST_S = 5.0


class AskingLane:
    """The questions about tokens of one kind."""

    def __init__(self, at_once: int, steady: Callable[[], float]) -> None:
        self.places = asyncio.Semaphore(at_once)
        self._steady = steady
        self._failures = 0
        self._rests_until = -math.inf

    def may_ask(self) -> bool:
        """Whether a question may be begun now; where it is the one that tries, no other may."""
        if self._failures < FAILURES_MOST:
            return True
        now = self._steady()
        if now < self._rests_until:
            return False
        self._rests_until = now + REST_S
        return True

    def answered(self) -> None:
        self._failures = 0

    def failed(self) -> None:
        self._failures += 1
        self._rests_until = self._steady() + REST_S
