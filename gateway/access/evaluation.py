"""What of one call its route's policy, resource and limits may read."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

from gateway.access.conditions.context import NO_RESOURCE, EvaluationContext, RequestedResource
from gateway.access.conditions.spelled_alike import CallAlike
from gateway.access.counted_endings import counted_inner_text, counted_last_text
from gateway.access.counted_values import counted_text
from gateway.access.policies import Policy, Verdict
from gateway.access.readings import has_readings
from gateway.access.routing.body_fields import engine_takes, field_at, reads_alike, wraps
from gateway.access.routing.request_values import (
    WITHOUT_BODY,
    HeaderFields,
    QueryParameters,
    has_body,
)
from gateway.access.routing.route_table import Match
from gateway.access.routing.routes import Route, SegmentKind
from gateway.access.routing.text_values import TextValues
from gateway.access.templates import Piece
from gateway.model import Call, Principal, Reason

MOST_PARTS = 4_096
"""Of all fields of the body that a policy or a limit reads.  Each condition that reads it takes a
microsecond for one, and 64 KiB hold 21,000."""

UNIDENTIFIED = RequestedResource(NO_RESOURCE.params, NO_RESOURCE.resource)
"""Of a call that is refused as nobody is known to have made it, or to know what it is about: what
it says counts for nothing, and its address pays."""

_NOTHING: Mapping[str, str] = MappingProxyType({})
_BETWEEN_PARAMETERS = re.compile("[&;?]|%26|%3[BbFf]")
"""What parts parameters from one another, or from the path, to some backend, as it stands or once
it is decoded."""


def evaluation_context(
    call: Call, match: Match, principal: Principal | None, now: Callable[[], float]
) -> EvaluationContext | Reason:
    """What the route's policy may read; the Reason when some of it could be read in two ways."""
    route, params = match.route, match.params
    policy = route.policy
    assert policy is not None, "no policy reads a call of this route"
    read = _read(call, match)
    if isinstance(read, Reason):
        return read
    context = EvaluationContext(call, principal, policy.roles, now, params, data=policy.data)
    context.query, context.headers = read
    if route.resource:
        context.resource = _resource(call, route, params, context.query, context.headers)
    return context


def context_read_as(
    before: EvaluationContext, call: Call, match: Match, principal: Principal | None
) -> EvaluationContext:
    """`before` of the same route and call, where its path is read as another one.  The query, the
    headers and the body are the same, and were found to be read in one way."""
    if before.alike is None:
        # What conditions read in other spellings is bounded for all readings together.
        before.alike = CallAlike()
    context = EvaluationContext(
        call,
        principal,
        before.roles,
        before.now,
        match.params,
        query=before.query,
        headers=before.headers,
        data=before.data,
        alike=before.alike,
    )
    if match.route.resource:
        context.resource = _resource(
            call, match.route, match.params, context.query, context.headers
        )
    return context


def action_verdict(
    policy: Policy, action: str, call: Call, principal: Principal, now: Callable[[], float]
) -> Verdict | Reason:
    """What a policy says of a call that no route takes; the Reason when some of what the policy
    reads could be read in two ways.  There is no resource, and there are no parameters."""
    rules = policy.rules_for(action)
    context = EvaluationContext(call, principal, policy.roles, now, data=policy.data)
    if rules.query_names:
        query = QueryParameters(rules.query_names).read(call.query)
        if query is None:
            return Reason.AMBIGUOUS_QUERY
        context.query = query
    if rules.header_names:
        headers = HeaderFields(rules.header_names).read(call.headers)
        if headers is None:
            return Reason.AMBIGUOUS_HEADER
        context.headers = headers
    return policy.verdict(action, context)


def _read(call: Call, match: Match) -> tuple[Mapping[str, str], Mapping[str, str]] | Reason:
    """The query and the headers, as rules, resource and limits of the route read them; the Reason
    when some of it, or of the path and the body, could be read in two ways."""
    route = match.route
    query = headers = _NOTHING
    if route.policy_query is not None:
        found = route.policy_query.read(call.query)
        if found is None or (call.method in WITHOUT_BODY and has_body(call.headers)):
            return Reason.AMBIGUOUS_QUERY
        query = found
    if route.beside_path is not None and _path_is_said_anew(call, match, call.query):
        return Reason.AMBIGUOUS_QUERY
    if route.beside_body is not None and route.beside_body.read(call.query) != {}:
        return Reason.AMBIGUOUS_QUERY
    if path_says_otherwise(call, match):
        return Reason.AMBIGUOUS_QUERY
    if route.policy_headers is not None:
        fields = route.policy_headers.read(call.headers)
        if fields is None:
            return Reason.AMBIGUOUS_HEADER
        headers = fields
    if route.body_names and not _can_be_read(call.body, route):
        return Reason.BODY_MALFORMED
    return query, headers


def said_otherwise(
    values: TextValues, call: Call, match: Match, context: EvaluationContext
) -> Reason | None:
    """The Reason when a text of a call that is allowed may be another way to write one for which
    it would not be.  Of others this is not asked: who may not call learns nothing of these."""
    refusal = values.refusal(context.query, context.headers)
    if refusal is not None:
        return refusal
    last_param = partial(_last_param, call, match.route)
    refuses = values.refuses_path(match.params, call.path, last_param)
    return Reason.AMBIGUOUS_PATH if refuses else None


def says_parameters(path: str) -> bool:
    """Whether a backend that makes a query of the path (`/x.php?id=$1`) may find parameters of
    their own in it."""
    return "&" in path or ";" in path or "%26" in path or "%3" in path


def path_says_otherwise(call: Call, match: Match) -> bool:
    """Whether such a backend finds one there by which something is decided, as the path stands or
    decoded once, and it says what was not judged."""
    route = match.route
    others = [one for one in (route.policy_query, route.beside_body) if one is not None]
    if (route.beside_path is None and not others) or not says_parameters(call.path):
        return False
    decoded = "/".join(call.segments).encode("utf-8", "replace").decode("latin-1")
    for text in {call.path, decoded}:
        behind = "&".join(_BETWEEN_PARAMETERS.split(text)[1:])
        if route.beside_path is not None and _path_is_said_anew(call, match, behind):
            return True
        if any(one.said(behind) != {} for one in others):
            return True
    return False


def _path_is_said_anew(call: Call, match: Match, query: str) -> bool:
    """Whether the query says of a parameter of the path what the path does not.

    Who says the same once more says nothing: whoever reads it, from wherever, has what was judged.
    Not so where the path has other readings, as each is of other values.
    """
    reader = match.route.beside_path
    said = None if reader is None else reader.said(query)
    if said is None or (said and has_readings(call)):
        return True
    return any(match.params[name] != value for name, value in said.items())


def _can_be_read(body: object, route: Route) -> bool:
    """Whether what the resource is made of is there for the policy if it is for the backend."""
    parts_of_text = (
        path
        for one in route.resource
        if len(one.template.pieces) > 1
        for path in one.template.names("body")
    )
    if not engine_takes([field_at(body, path) for path in route.body_names], MOST_PARTS):
        return False
    fields = route.body_fields
    if not reads_alike(body, fields) or wraps(body, fields, route.wrappers):
        return False
    if route.body_values is not None and not route.body_values.reads_alike(body):
        return False
    return not any(_is_no_text(field_at(body, path)) for path in parts_of_text)


def _is_no_text(value: object) -> bool:
    """Whether a text is made of it in several ways: of `7.0` backends make `7` or `7.0`, and of
    `7.9` some make `7`."""
    return isinstance(value, bool | float | Mapping | list)


def requested_resource(call: Call, match: Match) -> RequestedResource | Reason:
    """For the keys of limits that are asked before, or without, a policy; the Reason when some of
    what it is made of could be read in two ways."""
    read = _read(call, match)
    if isinstance(read, Reason):
        return read
    return _requested(call, match.route, _counted_params(match), read[0], read[1])


def judged_resource(call: Call, match: Match) -> RequestedResource:
    """For the keys of limits that are asked of a call which its policy allowed: what it is made of
    was found to be read in one way."""
    route, params = match.route, _counted_params(match)
    if not route.resource:
        return RequestedResource(params, NO_RESOURCE.resource, last_param=_last_param(call, route))
    query = route.resource_query.read(call.query) if route.resource_query else {}
    headers = route.resource_headers.read(call.headers) if route.resource_headers else {}
    return _requested(call, route, params, query or {}, headers or {})


def _counted_params(match: Match) -> Mapping[str, str]:
    """The values of the path as limits count them: a number without zeros before it and a UUID in
    lower case, as a backend takes them for the same."""
    route = match.route
    if not route.typed_params:
        return match.params
    params = dict(match.params)
    for name, kind in route.typed_params:
        text = params[name]
        params[name] = text.lower() if kind is SegmentKind.UUID else text.lstrip("0") or "0"
    return params


def _requested(
    call: Call,
    route: Route,
    params: Mapping[str, str],
    query: Mapping[str, str],
    headers: Mapping[str, str],
) -> RequestedResource:
    values = {"params": params, "query": query, "headers": headers, "body": call.body}
    last = _last_param(call, route)

    def spelled(piece: Piece, text: str) -> str | None:
        if piece.source != "params":
            return counted_text(text)
        is_last = piece.text == last
        return counted_last_text(text, call.path) if is_last else counted_inner_text(text)

    joined: dict[str, Callable[[], str | None]] = {}
    for one in route.resource:
        pieces = one.template.pieces
        if len(pieces) > 1:
            joined[one.name] = partial(one.template.fill, values, spelled)
        elif pieces[0].source == "params":
            joined[one.name] = partial(spelled, pieces[0], params[pieces[0].text])
    return RequestedResource(params, route.resource_of(values), joined, last)


def _last_param(call: Call, route: Route) -> str:
    """The parameter that stands last in the path that the backend is sent, also before a slash;
    empty where none does."""
    if route.is_prefix and any(map(_is_read, call.segments[len(route.segments) :])):
        return ""
    rewrite = route.rewrite
    sent = route.segments if rewrite is None or not rewrite.template else rewrite.template
    at = len(sent) - 1
    if at > 0 and sent[at].kind is SegmentKind.LITERAL and not sent[at].text:
        at -= 1
    return "" if at < 0 or sent[at].kind is SegmentKind.LITERAL else sent[at].text


def _is_read(segment: str) -> bool:
    """By every backend: some take parameters of a segment (`;x`) or blanks for nothing."""
    return bool(segment.partition(";")[0].strip())


def _resource(
    call: Call,
    route: Route,
    params: Mapping[str, str],
    query: Mapping[str, str],
    headers: Mapping[str, str],
) -> dict[str, Any]:
    values = {"params": params, "query": query, "headers": headers, "body": call.body}
    return route.resource_of(values)
