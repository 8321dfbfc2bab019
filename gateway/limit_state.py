"""Where a caller stands with the limits of a route, and how a client is told."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil


@dataclass(slots=True)
class LimitState:
    """Where one caller stands with the limits of one route, after this call.

    `policy` and `standing()` are the values of `RateLimit-Policy` and `RateLimit`
    (draft-ietf-httpapi-ratelimit-headers-11); they are sent on every answer to which a limit
    applied, refusals included.
    """

    wait_s: float
    """0.0 when the call is admitted; else the seconds until it would be."""
    policy: str
    limits: tuple[tuple[str, float], ...]
    """For each limit: its name and its units per second."""
    left: tuple[int, ...]
    """For each limit: the whole units that are left."""
    fields: bytes | None = None
    """The lines of both fields, rendered once by the edge: a standing may be many callers'."""

    def joined(self, later: LimitState) -> LimitState:
        """Of limits that were asked one after another: what `later` says behind this."""
        return LimitState(
            max(self.wait_s, later.wait_s),
            f"{self.policy}, {later.policy}",
            self.limits + later.limits,
            self.left + later.left,
        )

    def standing(self) -> str:
        """`t` is the time in which `r` units come back: a client that spreads what it has
        left over `t` keeps to the rate (section 8.5), and at `r=0` it is `Retry-After`."""
        if len(self.left) == 1:
            (name, per_s), left = self.limits[0], self.left[0]
            return f'"{name}";r={left};t={self._window_s(left, per_s)}'
        return ", ".join(
            f'"{name}";r={left};t={self._window_s(left, per_s)}'
            for (name, per_s), left in zip(self.limits, self.left, strict=True)
        )

    def _window_s(self, left: int, per_s: float) -> int:
        return ceil(left / per_s if left else self.wait_s or 1 / per_s)

    @property
    def retry_after_s(self) -> int:
        """Whole seconds, never before the end of any `t` (section 6)."""
        return ceil(self.wait_s)
