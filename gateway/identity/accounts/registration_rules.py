"""Who may register: whether anybody may, and with an address of which domains.

Law: what is refused here depends on the settings and on the address as it was sent, never on
which accounts there are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

RegistrationMode = Literal["open", "invited", "closed"]


@dataclass(frozen=True, slots=True)
class RegistrationRules:
    mode: RegistrationMode = "open"
    domains: frozenset[str] = frozenset()
    """In their ASCII form; empty: any."""

    @property
    def anybody(self) -> str:
        """Who may make an account without being asked to; empty where nobody may."""
        if self.mode != "open":
            return ""
        if self.domains:
            return f"anybody with an address of {', '.join(sorted(self.domains))}"
        return "anybody"

    def takes_domain(self, normalized_email: str) -> bool:
        """Whether the address is of one of the domains: a host below one of them is another."""
        return not self.domains or normalized_email.rpartition("@")[2] in self.domains

    def takes_stranger(self, normalized_email: str) -> bool:
        """Whether somebody who was not invited may make an account of the address."""
        return self.mode == "open" and self.takes_domain(normalized_email)


def invitation_problem(rules: RegistrationRules, normalized_email: str) -> str | None:
    """Why nobody could use an invitation of this address, for the operator; None where somebody
    could."""
    if rules.mode == "closed":
        return (
            "GATEWAY_REGISTRATION is closed, so nobody can use an invitation; `gateway users"
            " create` makes an account"
        )
    if not rules.takes_domain(normalized_email):
        return (
            "GATEWAY_REGISTRATION_DOMAINS does not list the domain of this address; `gateway users"
            " create` makes an account all the same"
        )
    return None
