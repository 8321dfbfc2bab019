"""How somebody must have signed in, and whether they did."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.model import Principal

_AHEAD_S = 5
"""As clocks of nodes may differ."""


def signed_in_within(seconds: int, auth_time: int | None, now: float) -> bool:
    """Whether who signed in then did so at most so many seconds ago.  A sign-in from the future
    proves nothing about its age: the clock of whoever asks is behind."""
    return auth_time is not None and now - seconds <= auth_time <= now + _AHEAD_S


@dataclass(frozen=True, slots=True)
class StepUp:
    """How the caller must have signed in for this (RFC 9470)."""

    max_age_s: int | None = None
    amr: tuple[str, ...] = ()

    def met(self, principal: Principal | None, now: float) -> bool:
        if principal is None:
            return False
        if self.max_age_s is not None and not signed_in_within(
            self.max_age_s, principal.auth_time, now
        ):
            return False
        return all(method in principal.amr for method in self.amr)
