"""Names, fields and functions of a condition held against what there is, at load."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import Any

from gateway.access.attributes import NO_ATTRIBUTES, Attribute
from gateway.access.conditions.context import KEYED, USER
from gateway.access.conditions.expressions import FUNCTIONS, Expression, FieldPath, FunctionCall
from gateway.access.field_names import (
    ADDRESS_FIELDS,
    NEVER_KEPT,
    TELLING_A_CALL,
    folded_text,
)
from gateway.access.suggestions import suggestion

ROOTS = ("user", "resource", "request", "client", "now", "data")
REQUEST_FIELDS = ("method", "path", "host", *KEYED)
# What a stranger writes as they please is no ground for a decision, and what the gateway
# removes or rebuilds has a trusted form of its own.
_UNTRUSTED_HEADERS = {
    "authorization": "use `user`",
    "cookie": "use `user`",
    "forwarded": "use `client.ip`",
    **dict.fromkeys(("x-forwarded", "forwarded-for", *ADDRESS_FIELDS), "use `client.ip`"),
    **TELLING_A_CALL,
    "user-agent": "a client writes it as it pleases",
    "host": "use `request.host`",
    **dict.fromkeys(("via", "x-request-id", "traceparent"), "the gateway writes it"),
    # RFC 9110 section 7.6.1: these speak of one connection.
    **dict.fromkeys(
        (
            "connection",
            "keep-alive",
            "proxy-connection",
            "proxy-authorization",
            "proxy-authenticate",
            "te",
            "trailer",
            "transfer-encoding",
            "http2-settings",
            *NEVER_KEPT,
        ),
        "it never reaches the backend",
    ),
}
_NULL_OF_NONE = {(name,) for name in ("email", "session_id", "auth_time", "tenant", "tenant_role")}
_COMPLAINT = re.compile(r"ERROR: <input>:(\d+):(\d+): (.*)")
_ARITY = {"in_cidr": 2, "has_role": 1, "has_scope": 1, "has": 1, "matches": 2}


def vocabulary_problems(
    expression: Expression,
    data: Mapping[str, Any],
    attributes: Mapping[str, Attribute] = NO_ATTRIBUTES,
) -> list[tuple[int, str]]:
    """Every name that nobody could ever answer: the character it is at, and a sentence."""
    problems: list[tuple[int, str]] = []
    for path in expression.paths:
        problems += _path_problems(path, data)
        if path.root == "user" and path.keys[:1] == ("attributes",):
            problems += _attribute_problems(path, attributes)
        if path.at in expression.asked_for:
            problems += _never_absent(path)
    for call in expression.calls:
        problems += call_problems(call)
    for name in sorted(expression.locals & set(ROOTS)):
        problems.append((0, f"the variable of an iteration may not be named `{name}`"))
    return problems


def _path_problems(path: FieldPath, data: Mapping[str, Any]) -> list[tuple[int, str]]:
    at, keys = path.at, path.keys
    if path.root not in ROOTS:
        return [(at, f"unknown name `{path.root}`{suggestion(path.root, ROOTS)}")]
    if path.root == "user":
        return _user_problems(path)
    if path.root == "client" and path.steps and keys != ("ip",):
        return [(at, "`client` has one field, `client.ip`")]
    if path.root == "now" and path.steps:
        return [(at, "`now` is a timestamp: ask it `now.getHours()`, or compare it")]
    if path.root == "resource" and path.steps and not keys:
        return [(at, "a field of `resource` is written out: `resource.owner`")]
    if path.root == "request":
        return _request_problems(path)
    if path.root == "data":
        if not keys:
            return [(at, "`data` is read by the name of its table: `data.teams[…]`")]
        if keys[0] not in data:
            return [(at, f"no file in data/ holds `{keys[0]}`{suggestion(keys[0], data)}")]
    return []


def _user_problems(path: FieldPath) -> list[tuple[int, str]]:
    at, keys = path.at, path.keys
    if not path.steps:
        # Of the caller as a whole nothing else is bound.
        text = "`user` alone can only be compared: `user == null`, `user != null`"
        return [] if path.against_null else [(at, text)]
    if not keys:
        return [(at, "a field of `user` is written out: `user.id`")]
    if keys[0] not in USER:
        return [(at, f"`user` has no field `{keys[0]}`{suggestion(keys[0], USER)}")]
    if len(path.steps) > 1 and keys[0] not in ("claims", "attributes", "tenants"):
        if keys[0] in ("roles", "scopes") and (path.guarded or not isinstance(path.steps[1], str)):
            return []
        return [(at, f"`user.{keys[0]}` has no fields of its own")]
    return []


def _never_absent(path: FieldPath) -> list[tuple[int, str]]:
    """Of who has none these are null, and `has(…)` holds of what is null."""
    if path.root != "user" or len(path.steps) > 1 or path.keys[:1] not in _NULL_OF_NONE:
        return []
    return [(path.at, f"`has({path})` is true of everybody who is signed in: ask `{path} != null`")]


def _attribute_problems(
    path: FieldPath, attributes: Mapping[str, Attribute]
) -> list[tuple[int, str]]:
    keys = path.keys
    if len(keys) < 2:
        return [(path.at, "an attribute is written out: `user.attributes.NAME`")]
    attribute = attributes.get(keys[1])
    if attribute is None:
        hint = suggestion(keys[1], attributes)
        return [(path.at, f"`attributes:` of routes.yaml has no `{keys[1]}`{hint}")]
    if not attribute.in_token:
        return [(path.at, f"no token carries `{keys[1]}`: its `claim` is `off`")]
    return []


def _request_problems(path: FieldPath) -> list[tuple[int, str]]:
    at, keys = path.at, path.keys
    if not keys or keys[0] not in REQUEST_FIELDS:
        name = keys[0] if keys else "…"
        return [(at, f"`request` has no field `{name}`{suggestion(name, REQUEST_FIELDS)}")]
    kind = keys[0]
    if kind not in KEYED:
        return [(at, f"`request.{kind}` has no fields of its own")] if len(path.steps) > 1 else []
    if len(keys) < 2:
        return [(at, f'the name is written out: `request.{kind}["name"]`')]
    if len(path.steps) > 2:
        return [(at, f"`{path}` is text: it has no fields")]
    name = keys[1]
    if kind != "headers":
        return []
    text = header_problem(name)
    return [(at, text)] if text else []


def header_problem(name: str) -> str | None:
    """Why a header of this name is no ground for a decision; None where it may be one."""
    if name != name.lower():
        return f'names of headers are lower case here: `request.headers["{name.lower()}"]`'
    known = folded_text(name).decode("ascii")
    if known.startswith(("x-auth-", "x-forwarded-")):
        better = "use `user`" if known.startswith("x-auth-") else "use `client.ip`"
        return f"`{name}` from a client is never believed; {better}"
    if known in _UNTRUSTED_HEADERS:
        return f"`{name}` is no ground for a decision; {_UNTRUSTED_HEADERS[known]}"
    return None


def call_problems(call: FunctionCall) -> list[tuple[int, str]]:
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


def syntax_problem(source: str, text: str) -> tuple[int, str]:
    """The engine's complaint about `source`, `… ERROR: <input>:1:7: Syntax error: …`: the
    character it is at, and one sentence."""
    complaint = _COMPLAINT.search(text)
    if complaint is None or "ParseError" in complaint[3]:
        # The engine's own structure, shown as it is: what it says is that it gave up.
        return 0, "not a CEL expression: nested too deeply"
    row, column = int(complaint[1]), int(complaint[2])
    before = source.split("\n")[: row - 1]
    at = sum(len(line) + 1 for line in before) + column - 1
    return at, f"not a CEL expression: {complaint[3]}"
