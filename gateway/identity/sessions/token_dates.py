"""What tokens are dated by: behind every change of their account, and never far ahead of the clock.

Law: what people bring about themselves puts no token further ahead than ISSUED_AHEAD_MAX_S.  Each
change of an account puts its next token a second later: dated days ahead, tokens would outlive the
revocations that are kept for two days, lock the owner out whatever password they set, and after a
restore everybody.
"""

from __future__ import annotations

from dataclasses import dataclass

ISSUED_AHEAD_MAX_S = 3

GRACE_MS = 10_000
"""Within so long a second use of a refresh token by the same client is no theft."""


@dataclass(frozen=True, slots=True)
class TooSoon:
    """It was asked for too often; a token that came is as good as before."""

    wait_s: float


def next_issued_at(now: int, not_before: int) -> int:
    """`iat <= not_before` is refused, so a token minted right after a change is one ahead."""
    return max(now, not_before + 1)


def too_soon(now: int, not_before: int) -> TooSoon | None:
    """How long an account of this not-before waits for a sign-in, or for one more change that its
    owner makes; None where it need not."""
    ahead_s = next_issued_at(now, not_before) - now
    return TooSoon(ahead_s - ISSUED_AHEAD_MAX_S) if ahead_s > ISSUED_AHEAD_MAX_S else None
