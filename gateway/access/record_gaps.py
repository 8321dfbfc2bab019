"""What a record of a decision says of that which it does not hold: what else came, and what was
found to be said once.

Law: no value is told here, and no name but those that the configuration reads.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from gateway.access.authorizer import Decision
from gateway.access.evaluation import requested_resource
from gateway.access.routing.request_values import HeaderFields, QueryParameters, has_body
from gateway.access.routing.route_table import Match
from gateway.access.routing.routes import Route
from gateway.model import Call, Credential, CredentialKind, Reason

READ_TWICE = {
    str(Reason.AMBIGUOUS_QUERY): "all other query parameters",
    str(Reason.AMBIGUOUS_HEADER): "all other headers",
    str(Reason.BODY_MALFORMED): "all other body fields",
}
"""The refusals of a call that could be read in two ways, and what they may come from."""


class LeftOut(dict[str, Any]):
    """A list or an object in a body, of which a record holds no more than the fields within that
    were read for themselves."""


@dataclass(frozen=True, slots=True)
class Beside:
    """What a record says of that which it does not hold."""

    credentials: frozenset[CredentialKind]
    """The kinds that came, whatever the route accepts."""
    has_query: bool
    has_body: bool
    """Whether fields announced one."""
    once: Mapping[str, frozenset[str]] | None
    """What was said once, and nothing beside it that is taken for it: names of the `path`, and
    those of `query`, `headers` and `body` that a limit alone reads; `wrappers` are those of the
    body.  Where the call was refused for its headers or its body, of the query alone; None where
    nobody looked, or it was not so."""


def reads_calls(route: Route) -> bool:
    """Whether anything that is said besides the path is looked at, by a policy or a limit."""
    return route.policy is not None or route.first_by_resource


def beside_names(route: Route | None) -> dict[str, frozenset[str]]:
    """As `Beside.once` has them, of what is looked at on a route."""
    if route is None or not reads_calls(route):
        return {}
    names = {
        "path": frozenset() if route.beside_path is None else route.beside_path.names,
        "wrappers": route.wrappers if route.body_names else frozenset(),
    }
    if route.policy is None:
        names |= {"query": route.query_names, "headers": route.header_names}
        names["body"] = route.body_names
    return names


def read_by(
    route: Route | None,
) -> tuple[QueryParameters | None, HeaderFields | None, frozenset[str]]:
    """The parameters, fields and names of body fields that the route's policy reads."""
    if route is None or route.policy is None:
        return None, None, frozenset()
    return route.policy_query, route.policy_headers, route.body_names


def body_fields(body: Any, names: frozenset[str]) -> tuple[dict[str, Any], list[str]]:
    """The values of the fields, and the names of those that are a list or an object."""
    fields: dict[str, Any] = {}
    left_out: list[str] = []
    for name in sorted(names):
        value = body
        for key in name.split("."):
            value = value.get(key) if isinstance(value, Mapping) else None
        if isinstance(value, str | int | float | bool):
            fields[name] = value
        elif value is not None:
            left_out.append(name)
    return fields, left_out


def body_of(values: Mapping[str, Any], left_out: Iterable[str] = ()) -> dict[str, Any] | None:
    """`left_out` is sorted: what lies in another lies behind it."""
    body: dict[str, Any] = {}
    for name, value in (*((name, LeftOut()) for name in left_out), *values.items()):
        block = body
        *path, last = name.split(".")
        for key in path:
            block = block.setdefault(key, {})
        block[last] = value
    return body or None


def beside_of(call: Call, decision: Decision) -> dict[str, Any]:
    """As a record has it; `read_beside` reads it back."""
    presented = call.presented if call.presented is not None else (call.credential,)
    kinds = [
        str(one.kind if isinstance(one, Credential) else CredentialKind.COOKIE)
        for one in presented
        if one is not None
    ]
    beside: dict[str, Any] = {"credentials": kinds}
    if call.query:
        beside["query"] = True
    if has_body(call.headers):
        beside["body"] = True
    if _is_said_once(call, decision):
        once = {name: sorted(found) for name, found in beside_names(decision.route).items()}
        beside["once"] = {name: found for name, found in once.items() if found}
    return beside


def _is_said_once(call: Call, decision: Decision) -> bool:
    """Whether what is read of the call is known to have been said in one way."""
    route = decision.route
    refusal = decision.refusal
    if route is None or not reads_calls(route) or refusal is Reason.AMBIGUOUS_QUERY:
        return False
    if refusal is not None and refusal in READ_TWICE:
        # The query was looked at before.  Of nobody it may be a cookie that came twice.
        return decision.principal is not None
    if decision.evaluated or (decision.allowed and route.first_by_resource):
        return True
    if route.body_names:
        return False  # of the body there is no more than what was read
    return not isinstance(requested_resource(call, Match(route, dict(decision.params))), Reason)


def read_beside(beside: Mapping[str, Any]) -> Beside:
    once = beside.get("once")
    return Beside(
        frozenset(map(CredentialKind, beside["credentials"])),
        bool(beside.get("query")),
        bool(beside.get("body")),
        None if once is None else {str(name): frozenset(found) for name, found in once.items()},
    )
