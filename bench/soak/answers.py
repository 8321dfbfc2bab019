"""An answer as a client got it, or that none came."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

CUT, LATE, BALANCER, PAGE = "cut", "late", "balancer", "page"
"""Causes that no reason names: the connection ended, nothing came in time, the answer is one of the
balancer's own, or a page of the gateway, which tells people why and no program."""
AVAILABILITY = frozenset((502, 503, 504))
MUST_SAY_WHEN = frozenset((429, 503))


@dataclass(slots=True)
class Answer:
    """`status` is 0 where none came; `reason` is the problem's, or one of the causes above."""

    status: int
    reason: str = ""
    fields: Mapping[str, str] = field(default_factory=dict)
    """By the lower-case name; of several of one name the last."""
    body: Any = None
    """A JSON document as it was read; else the bytes."""
    cookies: Mapping[str, str] = field(default_factory=dict)
    sent_at: float = 0.0
    received_at: float = 0.0
    """On the steady clock."""

    @property
    def took_s(self) -> float:
        return self.received_at - self.sent_at

    @property
    def retry_after_s(self) -> float:
        text = self.fields.get("retry-after", "")
        return float(text) if text.isdecimal() else 1.0

    @property
    def unavailable(self) -> str:
        """Why nobody decided about the call; empty where somebody did."""
        if self.status == 0 or self.status in AVAILABILITY:
            return self.reason or (PAGE if "proxy-status" in self.fields else BALANCER)
        return ""
