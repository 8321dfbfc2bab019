"""`require_factor`: whose sign-in needs a second factor (docs/factors.md)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FactorRule:
    roles: frozenset[str] = frozenset()
    everyone: bool = False
    within_s: int = 0
    """The term in which people enrol one, from the first time under the rule that somebody signs
    in, calls by a key, or does whatever asks whether the session may go on."""

    def applies(self, roles: Iterable[str]) -> bool:
        """Whether it holds for an account with these roles."""
        return self.everyone or not self.roles.isdisjoint(roles)


NO_FACTOR_RULE = FactorRule()
