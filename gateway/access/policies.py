"""Rules and their verdict.  (First slice: the words others import.)"""

from __future__ import annotations

from dataclasses import dataclass

from gateway.model import Place


@dataclass(frozen=True, slots=True)
class ResourceField:
    """One field of a route's resource, filled from the call."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Shadowed:
    """A rule in shadow that would have decided otherwise."""

    policy: str
    rule: str
    allowed: bool
    reason: str
    place: Place


class Policy:
    name: str = ""
