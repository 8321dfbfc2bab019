"""CEL conditions: checked at load, judged with only what they name.

A condition holds when it gives `true` itself.  Anything else it may give, and every way in
which it can fail, is a failure, which never allows (contract 8).
"""

from __future__ import annotations

import difflib
import ipaddress
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import cel

from gateway.access.expressions import (
    FUNCTIONS,
    Chain,
    Expression,
    FunctionCall,
    read_expression,
)
from gateway.access.roles import RoleBook, admits
from gateway.model import Call, Principal

MAX_ITEMS = 1_000
"""How many items a list or map may hold where a condition iterates."""

ROOTS = ("user", "resource", "request", "client", "now", "data")
REQUEST_FIELDS = ("method", "path", "host", "params", "query", "headers")
_KEYED = ("params", "query", "headers")
# What a stranger writes as they please is no ground for a decision, and what the gateway
# removes or rebuilds has a trusted form of its own.
_UNTRUSTED_HEADERS = {
    "authorization": "use `user`",
    "cookie": "use `user`",
    "forwarded": "use `client.ip`",
    "x-real-ip": "use `client.ip`",
    "user-agent": "a client writes it as it pleases",
    "host": "use `request.host`",
}


def _timestamp(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


_USER: dict[str, Callable[[Principal], Any]] = {
    "id": lambda p: p.subject,
    "email": lambda p: p.email,
    "email_verified": lambda p: p.email_verified,
    "roles": lambda p: p.roles,
    "session_id": lambda p: p.session_id,
    "auth_time": lambda p: None if p.auth_time is None else _timestamp(p.auth_time),
    "claims": lambda p: dict(p.claims),
}


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


Binder = Callable[[Facts], Any]


@dataclass(frozen=True, slots=True)
class Reads:
    """What a condition asks of a call; `must_…` are those it fails without."""

    resource: frozenset[str] = frozenset()
    must_resource: frozenset[str] = frozenset()
    params: frozenset[str] = frozenset()
    must_params: frozenset[str] = frozenset()
    query: frozenset[str] = frozenset()
    headers: frozenset[str] = frozenset()
    user: frozenset[str] = frozenset()
    roots: frozenset[str] = frozenset()


class Condition:
    """One compiled expression.  Immutable after it is made."""

    __slots__ = ("_binders", "_functions", "_iterates", "_program", "expression", "reads", "source")

    def __init__(self, source: str, expression: Expression) -> None:
        self.source = source
        self.expression = expression
        self.reads = _reads(expression)
        self._program = cel.compile(source)
        self._binders = _binders(expression)
        names = {call.name for call in expression.calls}
        self._functions = tuple((name, make) for name, make in _FUNCTIONS.items() if name in names)
        self._iterates = expression.iterates

    def judge(self, facts: Facts) -> bool | str:
        """True or False, or a sentence about why it could not be judged."""
        value = self.value(facts)
        if value is True or value is False:
            return bool(value)
        if isinstance(value, ConditionFailed):
            return value.text
        return f"gives {type(value).__name__} {value!r}, not true or false"

    def value(self, facts: Facts) -> Any:
        """What the expression gives, or a ConditionFailed."""
        try:
            bound = {name: bind(facts) for name, bind in self._binders}
            if self._iterates and any(_too_long(value) for value in bound.values()):
                return ConditionFailed(f"iterates over more than {MAX_ITEMS} items")
            for name, make in self._functions:
                bound[name] = make(facts)
            return self._program.execute(bound)
        except KeyError as error:
            return ConditionFailed(f"there is no {error.args[0] if error.args else 'such key'}")
        except (LookupError, TypeError, ValueError, ArithmeticError, RuntimeError) as error:
            # The engine's errors have no other common base.
            return ConditionFailed(str(error).splitlines()[0][:160])

    def values(self, facts: Facts) -> list[tuple[str, Any]]:
        """What it reads of this call, in the order of the text, for people; each once."""
        found: dict[str, Any] = {}
        for chain in self.expression.chains:
            if chain.root not in _BINDER:
                continue
            found.setdefault(_shown(chain, facts), _read(chain, facts))
        for call in self.expression.calls:
            if call.name == "has_role" and facts.principal is not None:
                found.setdefault("user.roles", facts.principal.roles)
        return list(found.items())


@dataclass(frozen=True, slots=True)
class ConditionFailed:
    text: str


def compile_condition(
    source: str, data: Mapping[str, Any] | None = None
) -> Condition | list[tuple[int, str]]:
    """The condition, or every problem with it: the character it is at, and a sentence."""
    expression = read_expression(source)
    problems = list(expression.problems)
    if not problems:
        for chain in expression.chains:
            problems += _chain_problems(chain, data or {})
        for call in expression.calls:
            problems += _call_problems(call)
        for name in sorted(expression.locals & set(ROOTS)):
            problems.append((0, f"the variable of an iteration may not be named `{name}`"))
    if not problems:
        try:
            return Condition(source, expression)
        except ValueError as error:
            problems.append(_syntax(str(error)))
    return sorted(problems)


def suggestion(word: str, known: Any) -> str:
    """`; did you mean `x`?`, or what there is, or nothing."""
    names = [str(name) for name in known]
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    if close:
        return f"; did you mean `{close[0]}`?"
    if names and len(names) <= 12:
        return "; there is " + ", ".join(f"`{name}`" for name in names)
    return ""


def in_cidr(address: Any, block: Any) -> bool | None:
    """Whether `address` lies in `block`; None, which fails the condition, if either is none.

    An IPv4 address written as IPv6 (`::ffff:10.0.0.1`) is the IPv4 address.
    """
    if not isinstance(address, str) or not isinstance(block, str):
        return None
    network = _network(block)
    found = _address(address)
    if network is None or found is None:
        return None
    return found.version == network.version and found in network


@lru_cache(maxsize=1024)
def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        return None


@lru_cache(maxsize=4096)
def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        return address.ipv4_mapped
    return address


def has_scope(principal: Principal | None, action: Any) -> bool:
    """Whether the credential may be used for `action`: any may that is limited to nothing."""
    if principal is None or not isinstance(action, str):
        return False
    if principal.scopes is None:
        return True
    return any(admits(scope, action) for scope in principal.scopes)


def _has_role(facts: Facts) -> Callable[[Any], bool]:
    principal = facts.principal
    held = facts.roles.held(principal.roles) if principal else frozenset()
    # Only text is hashable for sure, and a callback that raises writes to standard error.
    return lambda role: isinstance(role, str) and role in held


_FUNCTIONS: dict[str, Callable[[Facts], Callable[..., Any]]] = {
    "in_cidr": lambda facts: in_cidr,
    "has_role": _has_role,
    "has_scope": lambda facts: lambda action: has_scope(facts.principal, action),
}
_ARITY = {"in_cidr": 2, "has_role": 1, "has_scope": 1, "has": 1}


def _chain_problems(chain: Chain, data: Mapping[str, Any]) -> list[tuple[int, str]]:
    at, keys = chain.at, chain.keys
    if chain.root not in ROOTS:
        return [(at, f"unknown name `{chain.root}`{suggestion(chain.root, ROOTS)}")]
    if chain.root == "user":
        return _user_problems(chain)
    if chain.root == "client" and chain.steps and keys != ("ip",):
        return [(at, "`client` has one field, `client.ip`")]
    if chain.root == "now" and chain.steps:
        return [(at, "`now` is a timestamp: ask it `now.getHours()`, or compare it")]
    if chain.root == "resource" and chain.steps and not keys:
        return [(at, "a field of `resource` is written out: `resource.owner`")]
    if chain.root == "request":
        return _request_problems(chain)
    if chain.root == "data":
        if not keys:
            return [(at, "`data` is read by the name of its table: `data.teams[…]`")]
        if keys[0] not in data:
            return [(at, f"no file in data/ holds `{keys[0]}`{suggestion(keys[0], data)}")]
    return []


def _user_problems(chain: Chain) -> list[tuple[int, str]]:
    at, keys = chain.at, chain.keys
    if not chain.steps:
        return []
    if not keys:
        return [(at, "a field of `user` is written out: `user.id`")]
    if keys[0] not in _USER:
        return [(at, f"`user` has no field `{keys[0]}`{suggestion(keys[0], _USER)}")]
    if len(chain.steps) > 1 and keys[0] != "claims":
        if keys[0] == "roles" and (chain.guarded or not isinstance(chain.steps[1], str)):
            return []
        return [(at, f"`user.{keys[0]}` has no fields of its own")]
    return []


def _request_problems(chain: Chain) -> list[tuple[int, str]]:
    at, keys = chain.at, chain.keys
    if not keys or keys[0] not in REQUEST_FIELDS:
        name = keys[0] if keys else "…"
        return [(at, f"`request` has no field `{name}`{suggestion(name, REQUEST_FIELDS)}")]
    kind = keys[0]
    if kind not in _KEYED:
        return [(at, f"`request.{kind}` has no fields of its own")] if len(chain.steps) > 1 else []
    if len(keys) < 2:
        return [(at, f'the name is written out: `request.{kind}["name"]`')]
    if len(chain.steps) > 2:
        return [(at, f"`{chain}` is text: it has no fields")]
    name = keys[1]
    if kind != "headers":
        return []
    if name != name.lower():
        return [(at, f'names of headers are lower case here: `request.headers["{name.lower()}"]`')]
    if name.startswith(("x-auth-", "x-forwarded-")):
        better = "use `user`" if name.startswith("x-auth-") else "use `client.ip`"
        return [(at, f"`{name}` from a client is never believed; {better}")]
    if name in _UNTRUSTED_HEADERS:
        return [(at, f"`{name}` is no ground for a decision; {_UNTRUSTED_HEADERS[name]}")]
    return []


def _call_problems(call: FunctionCall) -> list[tuple[int, str]]:
    if call.name not in FUNCTIONS:
        return [(call.at, f"unknown function `{call.name}`{suggestion(call.name, FUNCTIONS)}")]
    given = len(call.literals) + (1 if call.method else 0)
    wanted = _ARITY.get(call.name)
    if call.method and call.name in ("has", "has_role", "has_scope"):
        return [(call.at, f'`{call.name}` stands alone: `{call.name}("…")`')]
    if wanted is not None and given != wanted:
        return [(call.at, f"`{call.name}` takes {wanted} argument(s), not {given}")]
    if call.name == "in_cidr" and call.literals and (block := call.literals[-1]) is not None:
        try:
            ipaddress.ip_network(block)
        except ValueError as error:
            return [(call.at, f"`{block}` is no address block: {error}")]
    return []


def _syntax(text: str) -> tuple[int, str]:
    """The engine's complaint: `… ERROR: <input>:1:7: Syntax error: …`, to one sentence."""
    _, _, rest = text.partition("<input>:")
    place, _, sentence = rest.partition(": ")
    row, _, column = place.partition(":")
    at = int(column) if row == "1" and column.isdigit() else 0
    first = (sentence or text).splitlines()[0]
    return at, f"not a CEL expression: {first}"


def _reads(expression: Expression) -> Reads:
    named: dict[str, set[str]] = {key: set() for key in ("resource", "params", "query", "headers")}
    must: dict[str, set[str]] = {key: set() for key in ("resource", "params")}
    user: set[str] = set()
    loose = {str(chain) for chain in expression.chains if chain.guarded}
    for chain in expression.chains:
        keys = chain.keys
        if chain.root == "resource" and keys:
            kind, name = "resource", keys[0]
        elif chain.root == "request" and len(keys) > 1:
            kind, name = keys[0], keys[1]
        else:
            if chain.root == "user":
                user.update(keys[:1] or _USER)
            continue
        named[kind].add(name)
        if kind in must and not chain.guarded and str(chain) not in loose:
            must[kind].add(name)
    roots = {chain.root for chain in expression.chains}
    if {"has_role", "has_scope"} & {call.name for call in expression.calls}:
        roots.add("user")
        user.add("roles")
    return Reads(
        resource=frozenset(named["resource"]),
        must_resource=frozenset(must["resource"]),
        params=frozenset(named["params"]),
        must_params=frozenset(must["params"]),
        query=frozenset(named["query"]),
        headers=frozenset(named["headers"]),
        user=frozenset(user),
        roots=frozenset(roots),
    )


def _binders(expression: Expression) -> tuple[tuple[str, Binder], ...]:
    by_root: dict[str, list[Chain]] = {}
    for chain in expression.chains:
        by_root.setdefault(chain.root, []).append(chain)
    return tuple((root, _BINDER[root](chains)) for root, chains in by_root.items())


def _bind_user(chains: list[Chain]) -> Binder:
    fields = {chain.keys[0] for chain in chains if chain.keys}
    if any(not chain.steps for chain in chains) and not fields:
        # `user == null` asks only whether anyone is signed in.
        fields = {"id"}
    getters = tuple((name, _USER[name]) for name in sorted(fields))

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
        kind: tuple(sorted({c.keys[1] for c in chains if c.keys[0] == kind})) for kind in _KEYED
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
            text = str(_address(text) or text)
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


def _read(chain: Chain, facts: Facts) -> Any:
    """What the chain gives; ConditionFailed where there is nothing."""
    value: Any = _BINDER[chain.root]([chain])(facts)
    for step in chain.steps:
        key = _looked_up(step, facts) if isinstance(step, Chain) else step
        if isinstance(value, list | tuple) or not isinstance(key, str):
            # `"x" in user.roles` was read as a step; the list is what is meant.
            return value
        if not isinstance(value, Mapping) or key not in value:
            return ConditionFailed("nothing")
        value = value[key]
    return value


def _shown(chain: Chain, facts: Facts) -> str:
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


def _too_long(value: Any) -> bool:
    if isinstance(value, Mapping):
        return len(value) > MAX_ITEMS or any(_too_long(item) for item in value.values())
    if isinstance(value, list | tuple):
        return len(value) > MAX_ITEMS or any(_too_long(item) for item in value)
    return False
