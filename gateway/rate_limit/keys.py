"""Whose calls a limit counts together: the text under which it counts."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from gateway.access.conditions.conditions import Condition
from gateway.access.conditions.context import NO_ABOUT, About, EvaluationContext
from gateway.access.definitions import Limit, LimitKey
from gateway.access.roles import RoleBook
from gateway.access.routing.request_values import HeaderFields, QueryParameters
from gateway.client_networks import holder
from gateway.model import Call, Clock, Principal

Key = Callable[[Call, Principal | None, About], str]

LONGEST = 128
"""A key that an expression gives and that is longer counts under its hash."""


def key_of(limit: Limit, clock: Clock) -> Key:
    if limit.expression is not None:
        return _by_expression(limit.expression, clock)
    return _KEYS.get(limit.key, _all_together)


def by_user(call: Call, principal: Principal | None, about: About) -> str:
    """The subject; the address where nobody is signed in."""
    return principal.subject if principal is not None else _anonymous(call)


def _by_address(call: Call, principal: Principal | None, about: About) -> str:
    address = call.client_ip
    return holder(address) if ":" in address else address


def _by_client(call: Call, principal: Principal | None, about: About) -> str:
    if principal is None or principal.client_id is None:
        return _anonymous(call)
    return principal.client_id


def _by_roles(call: Call, principal: Principal | None, about: About) -> str:
    return ",".join(sorted(principal.role_set)) if principal is not None else _anonymous(call)


def _all_together(call: Call, principal: Principal | None, about: About) -> str:
    return ""


_KEYS: dict[LimitKey, Key] = {
    LimitKey.USER: by_user,
    LimitKey.ADDRESS: _by_address,
    LimitKey.CLIENT: _by_client,
    LimitKey.ROLE: _by_roles,
}


def _by_expression(expression: Condition, clock: Clock) -> Key:
    """What the expression gives; where it gives nothing to count by, the address."""
    roles = RoleBook()
    query, headers = QueryParameters(expression.reads.query), HeaderFields(expression.reads.headers)

    def key(call: Call, principal: Principal | None, about: About) -> str:
        context = EvaluationContext(call, principal, roles, clock.now, about.params, about.resource)
        if query.names:
            context.query = query.read(call.query) or {}
        if headers.names:
            context.headers = headers.read(call.headers) or {}
        value = expression.value(context)
        if not isinstance(value, str | int) or value == "":
            return _anonymous(call)
        text = str(value)
        if len(text) > LONGEST:
            text = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
        return "is " + text

    return key


def _anonymous(call: Call) -> str:
    """The address, marked by a space: no subject, client or role can hold one."""
    return "address " + _by_address(call, None, NO_ABOUT)
