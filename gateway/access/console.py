"""The operator's console: where it is, and what judges who may see it and who may act there."""

from __future__ import annotations

from enum import StrEnum

from gateway.access.policies import Effect, Policy, Rule
from gateway.access.roles import Role, RoleBook

HOME = "/admin"
"""Each page of it is this one or lies below."""
ADMIN_ROLE = "admin"


class ConsolePermission(StrEnum):
    """As policies name them."""

    READ = "admin:read"
    WRITE = "admin:write"


def admin_policy() -> Policy:
    """Where `console:` names none: the role `admin` has both."""
    roles = RoleBook([Role(ADMIN_ROLE, permissions=tuple(ConsolePermission))])
    return Policy("console", (Rule("role-admin", Effect.ALLOW, role_permissions=True),), roles)
