"""What the conditions of one call may read, and how it is handed to the engine.

Of each variable only what the expression names is bound: the engine copies whatever it is given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

from gateway.access.conditions.expressions import Chain, Expression
from gateway.access.conditions.functions import address_of
from gateway.access.roles import RoleBook
from gateway.model import Call, Principal

KEYED = ("params", "query", "headers")
"""The fields of `request` that hold values by name."""


@dataclass(slots=True)
class Facts:
    """What the conditions of one call may read."""

    call: Call
    principal: Principal | None
    roles: RoleBook
    now: Callable[[], float]
    params: Mapping[str, str] = field(default_factory=dict)
    resource: Mapping[str, Any] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class About:
    """What a call is about, for the keys of limits: the values of its path, and the resource
    that its route makes of it."""

    params: Mapping[str, str]
    resource: Mapping[str, Any]


NO_ABOUT = About(MappingProxyType({}), MappingProxyType({}))

Binder = Callable[[Facts], Any]


@dataclass(frozen=True, slots=True)
class Nothing:
    """There is no such value."""

    text: str = "nothing"


def _timestamp(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


USER: dict[str, Callable[[Principal], Any]] = {
    "id": lambda p: p.subject,
    "email": lambda p: p.email,
    "email_verified": lambda p: p.email_verified,
    "roles": lambda p: p.roles,
    "session_id": lambda p: p.session_id,
    "auth_time": lambda p: None if p.auth_time is None else _timestamp(p.auth_time),
    "claims": lambda p: dict(p.claims),
}


def binders(expression: Expression) -> tuple[tuple[str, Binder], ...]:
    by_root: dict[str, list[Chain]] = {}
    for chain in expression.chains:
        by_root.setdefault(chain.root, []).append(chain)
    return tuple((root, _BINDER[root](chains)) for root, chains in by_root.items())


def _bind_user(chains: list[Chain]) -> Binder:
    fields = {chain.keys[0] for chain in chains if chain.keys}
    if any(not chain.steps for chain in chains) and not fields:
        # `user == null` asks only whether anyone is signed in.
        fields = {"id"}
    getters = tuple((name, USER[name]) for name in sorted(fields))

    def bind(facts: Facts) -> Any:
        principal = facts.principal
        if principal is None:
            return None
        return {name: get(principal) for name, get in getters}

    return bind


def _bind_resource(chains: list[Chain]) -> Binder:
    if any(not chain.keys for chain in chains):
        return lambda facts: dict(facts.resource)
    names = tuple(sorted({chain.keys[0] for chain in chains}))

    def bind(facts: Facts) -> Any:
        resource = facts.resource
        return {name: resource[name] for name in names if name in resource}

    return bind


def _bind_request(chains: list[Chain]) -> Binder:
    fields = {chain.keys[0] for chain in chains}
    names = {
        kind: tuple(sorted({c.keys[1] for c in chains if c.keys[0] == kind})) for kind in KEYED
    }

    def bind(facts: Facts) -> Any:
        bound: dict[str, Any] = {}
        call = facts.call
        if "method" in fields:
            bound["method"] = call.method
        if "path" in fields:
            bound["path"] = "/" + "/".join(call.segments)
        if "host" in fields:
            bound["host"] = call.host
        for kind, held in (
            ("params", facts.params),
            ("query", facts.query),
            ("headers", facts.headers),
        ):
            if kind in fields:
                bound[kind] = {name: held[name] for name in names[kind] if name in held}
        return bound

    return bind


def _bind_client(chains: list[Chain]) -> Binder:
    def bind(facts: Facts) -> Any:
        text = facts.call.client_ip
        if text.startswith("::"):
            text = str(address_of(text) or text)
        return {"ip": text}

    return bind


def _bind_data(chains: list[Chain]) -> Binder:
    # The engine copies what is bound, so of a big table only the named entry goes in.
    def bind(facts: Facts) -> Any:
        bound: dict[str, Any] = {}
        for chain in chains:
            _bind_entry(bound, facts.data, chain, facts)
        return bound

    return bind


def _bind_entry(bound: dict[str, Any], held: Any, chain: Chain, facts: Facts) -> None:
    at: dict[str, Any] = bound
    for index, step in enumerate(chain.steps):
        key = _looked_up(step, facts) if isinstance(step, Chain) else step
        if not isinstance(held, Mapping) or (isinstance(step, Chain) and key is None):
            return
        if not isinstance(key, str):
            # The text does not tell which entry: the whole table is bound.
            at.update(held)
            return
        if key not in held:
            return
        held = held[key]
        if index == len(chain.steps) - 1 or not isinstance(held, Mapping):
            at[key] = held
            return
        inner = at.setdefault(key, {})
        if inner is held:
            return
        at = inner


def _looked_up(chain: Chain, facts: Facts) -> str | None:
    """The text that a simple chain gives; None when it gives none."""
    value: Any = _BINDER[chain.root]([chain])(facts)
    for step in chain.steps:
        if not isinstance(step, str) or not isinstance(value, Mapping):
            return None
        value = value.get(step)
    return value if isinstance(value, str) else None


def resolved(chain: Chain, facts: Facts) -> tuple[str, ...] | None:
    """The keys by which the chain goes in this call; None where one of them is no text."""
    keys: list[str] = []
    for step in chain.steps:
        key = _looked_up(step, facts) if isinstance(step, Chain) else step
        if not isinstance(key, str):
            return None
        keys.append(key)
    return tuple(keys)


def read(chain: Chain, facts: Facts) -> Any:
    """What the chain gives; Nothing where there is nothing."""
    value: Any = _BINDER[chain.root]([chain])(facts)
    for step in chain.steps:
        key = _looked_up(step, facts) if isinstance(step, Chain) else step
        if isinstance(value, list | tuple) or not isinstance(key, str):
            # `"x" in user.roles` was read as a step; the list is what is meant.
            return value
        if not isinstance(value, Mapping) or key not in value:
            return Nothing()
        value = value[key]
    return value


def written(chain: Chain, facts: Facts) -> str:
    text = chain.root
    for step in chain.steps:
        key = _looked_up(step, facts) if isinstance(step, Chain) else step
        if chain.root == "user" and text == "user.roles":
            break
        plain = isinstance(key, str) and key.replace("_", "a").isalnum()
        text += f".{key}" if plain else f"[{key!r}]" if key is not None else "[…]"
    return text


_BINDER: dict[str, Callable[[list[Chain]], Binder]] = {
    "user": _bind_user,
    "resource": _bind_resource,
    "request": _bind_request,
    "client": _bind_client,
    "now": lambda chains: lambda facts: _timestamp(facts.now()),
    "data": _bind_data,
}
