"""What a role may be named, and how many an account or a client may have."""

from __future__ import annotations

import re
from collections.abc import Sequence

ROLE = re.compile(r"[A-Za-z0-9._:@-]{1,128}")

# A token of more than 8 KiB is refused unread: its roles may take half of that.
_ROLES_LENGTH = 4096


def check_roles(roles: Sequence[str]) -> None:
    """Raises ValueError for roles that no token could hold."""
    if not all(ROLE.fullmatch(role) for role in roles):
        raise ValueError("a role is 1 to 128 of A-Z a-z 0-9 . _ : @ -")
    if sum(len(role) + 3 for role in roles) > _ROLES_LENGTH:
        raise ValueError(f"the roles of one account hold at most {_ROLES_LENGTH} characters")
