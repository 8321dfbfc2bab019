"""What a configuration lets be said of an account besides its roles: attributes, and tenants.

Definitions alone: `config/attributes.py` reads them, `identity/accounts/` keeps the values.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Any, TypeGuard

from gateway.model import NOWHERE, OWN_ISSUER, Principal, SourceLocation

_TENANT_NAME = re.compile(r"[A-Za-z0-9._:@-]{1,128}")
NO_ATTRIBUTES: Mapping[str, Attribute] = MappingProxyType({})

TEXT_MAX = 256
LIST_MAX = 32
WHOLE_MAX = 2**53
"""Beyond it another reader of the same JSON may see another number (RFC 8259 section 6)."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")

Value = str | int | bool | list[str]
"""Of an attribute; a list is one of texts."""


def is_tenant_name(text: object) -> TypeGuard[str]:
    """Whether it may be a tenant, or a role in one: as a role is named, since both go into tokens
    and fields."""
    return isinstance(text, str) and _TENANT_NAME.fullmatch(text) is not None


class AttributeType(StrEnum):
    STRING = "string"
    INTEGER = "integer"
    BOOLEAN = "boolean"
    LIST = "list"
    """Of texts."""


class SetBy(StrEnum):
    """Who may give an attribute its value."""

    OPERATOR = "operator"
    PERSON = "person"
    PROVIDER = "provider"


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute that accounts may have."""

    name: str
    type: AttributeType = AttributeType.STRING
    values: tuple[str, ...] = ()
    """The only texts that it, or an entry of the list, may be; empty: any."""
    claim: str | None = None
    """Tokens carry it under this name too."""
    in_token: bool = True
    """Whether tokens carry it at all: what they do not, no policy can read."""
    set_by: frozenset[SetBy] = frozenset((SetBy.OPERATOR,))
    location: SourceLocation = field(default=NOWHERE, compare=False)

    def problem(self, value: object) -> str | None:
        """Why the attribute cannot have this value of JSON; None where it can."""
        if self.type is AttributeType.BOOLEAN:
            return None if isinstance(value, bool) else "is true or false"
        if self.type is AttributeType.INTEGER:
            # By its type itself: True is an int to Python.
            good = type(value) is int and abs(value) <= WHOLE_MAX
            return None if good else f"is a whole number, {WHOLE_MAX} at most"
        if self.type is AttributeType.STRING:
            return self._text_problem(value)
        if not isinstance(value, list | tuple):
            return "is a list of texts"
        if len(value) > LIST_MAX:
            return f"holds at most {LIST_MAX} entries"
        problems = (self._text_problem(one) for one in value)
        return next((f"holds a text that {one}" for one in problems if one is not None), None)

    def _text_problem(self, value: object) -> str | None:
        if not isinstance(value, str) or not value:
            return "is text, and not empty"
        if len(value) > TEXT_MAX or _CONTROL.search(value):
            return f"is one line of at most {TEXT_MAX} characters"
        if self.values and value not in self.values:
            return f"is one of {', '.join(self.values)}"
        return None


@dataclass(frozen=True, slots=True)
class TenantRules:
    """What accounts may be in the tenants of an installation."""

    roles: tuple[str, ...]
    location: SourceLocation = field(default=NOWHERE, compare=False)


def attributes_of(principal: Principal) -> Mapping[str, Any]:
    """What a token of ours says of its holder's attributes; empty of another issuer's."""
    return _own_table(principal, "attributes")


def tenants_of(principal: Principal) -> Mapping[str, str]:
    """The caller's tenants, each with the role there.

    A key that was imported may sign anything under the name of this claim: what is no tenant is
    none.
    """
    return {
        tenant: role
        for tenant, role in _own_table(principal, "tenants").items()
        if is_tenant_name(tenant) and is_tenant_name(role)
    }


def tenant_of(principal: Principal) -> str | None:
    """The tenant for which the caller acts; None where none was chosen."""
    if principal.issuer != OWN_ISSUER:
        return None
    tenant = principal.claims.get("tenant")
    return tenant if is_tenant_name(tenant) else None


def tenant_role_of(principal: Principal) -> str | None:
    """The role in the tenant for which the caller acts."""
    tenant = tenant_of(principal)
    return None if tenant is None else tenants_of(principal).get(tenant)


def in_tenant(principal: Principal, tenant: str) -> Principal:
    """The caller as whoever acts for this tenant; for none, where they are not of it."""
    chosen = tenant if tenant in tenants_of(principal) else None
    if chosen == tenant_of(principal):
        return principal
    claims = {name: value for name, value in principal.claims.items() if name != "tenant"}
    if chosen is not None:
        claims["tenant"] = chosen
    return replace(principal, claims=claims, identity_headers=None, identity_lines=None)


def _own_table(principal: Principal, claim: str) -> Mapping[str, Any]:
    if principal.issuer != OWN_ISSUER:
        return {}
    table = principal.claims.get(claim)
    return table if isinstance(table, Mapping) else {}
