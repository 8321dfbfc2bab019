"""When somebody may change the factors of their own account."""

from __future__ import annotations

from gateway.identity.factors.factor_kinds import MFA
from gateway.model import Principal

FRESH_S = 300
"""How long ago who changes a factor may have signed in, or stepped up: no stolen session is to
gain a factor that outlives it."""


def may_change_factors(principal: Principal, now: float, *, has_factor: bool) -> bool:
    """Whether the caller has signed in just now, with a factor where the account has one."""
    if principal.auth_time is None or now - principal.auth_time > FRESH_S:
        return False
    return not has_factor or MFA in principal.amr
