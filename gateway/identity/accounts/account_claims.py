"""What tokens and cookie sessions say of an account besides its address and roles.

Law: a token carries only what the configuration of this moment lets an account have: a value
that its attribute would not take any more, or not from whom it is, and a tenant that the account
has left, are left out.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from gateway.access.attributes import Attribute, SetBy, TenantRules
from gateway.identity.accounts.account_rows import Account

_LENGTH_MAX = 4096
"""Characters: a token of more than 8 KiB is refused unread, and what is said of its account may
take half of that."""
_CLAIM_NAME = 64
_NOTHING: Mapping[str, Any] = MappingProxyType({})


class AccountClaims:
    """Makes the claims by the configuration that holds now."""

    def __init__(
        self,
        attributes: Callable[[], Mapping[str, Attribute]] = lambda: _NOTHING,
        tenants: Callable[[], TenantRules | None] = lambda: None,
    ) -> None:
        self._attributes = attributes
        self._tenants = tenants

    def names(self) -> frozenset[str]:
        """Those that `of` may give."""
        own = (one.claim for one in self._attributes().values() if one.claim is not None)
        return frozenset(("attributes", "tenants", "tenant", *own))

    def of(self, account: Account, chosen: str | None) -> dict[str, Any]:
        """`attributes`, `tenants` and `tenant`, and the claims that attributes have of their own.

        `chosen` is the tenant of the session.  An account of one tenant alone acts for that one.
        """
        claims: dict[str, Any] = {}
        table: dict[str, Any] = {}
        for name, attribute in self._attributes().items():
            value = account.attributes.get(name)
            if value is None or not attribute.in_token or attribute.problem(value) is not None:
                continue
            if not may_set(attribute, account.set_by.get(name, "")):
                continue
            table[name] = value
            if attribute.claim is not None:
                claims[attribute.claim] = value
        if table:
            claims["attributes"] = table
        rules = self._tenants()
        held = (
            {} if rules is None else {t: r for t, r in account.tenants.items() if r in rules.roles}
        )
        if held:
            claims["tenants"] = held
            tenant = chosen if chosen is not None else next(iter(held)) if len(held) == 1 else None
            if tenant in held:
                claims["tenant"] = tenant
        return claims


def may_set(attribute: Attribute, set_by: str) -> bool:
    """Whether what `set_by` gave counts now.  An operator's always does: `set_by` of the
    configuration says who besides may change it."""
    kind = set_by.partition(" ")[0]
    return kind == SetBy.OPERATOR or kind in attribute.set_by


def check_length(
    roles: Sequence[str], attributes: Mapping[str, Any], tenants: Mapping[str, str]
) -> None:
    """Raises ValueError for more than a token could hold, whatever the configuration names its
    claims."""
    length = sum(len(role) + 3 for role in roles)
    for name, value in attributes.items():
        length += len(name) + _CLAIM_NAME + 2 * len(json.dumps(value))
    length += sum(len(tenant) + len(role) + 6 for tenant, role in tenants.items())
    if length > _LENGTH_MAX:
        raise ValueError(
            "the roles, attributes and tenants of one account are too long for a token:"
            f" {length:,} of {_LENGTH_MAX:,} characters"
        )
