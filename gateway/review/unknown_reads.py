"""What a configuration looks at of a recorded call, and the record does not tell.

Law: what was found to be said once is so for whoever looks for no more than that, and of what was
not looked for nothing is known.
"""

from __future__ import annotations

from gateway.access.authorizer import Decision
from gateway.access.decision_record import RecordedDecision
from gateway.access.record_gaps import READ_TWICE, beside_names, read_by, reads_calls
from gateway.access.routing.body_fields import parts_of
from gateway.access.routing.request_values import WITHOUT_BODY
from gateway.access.routing.routes import Route
from gateway.model import Reason

_QUERY, _HEADERS, _BODY = READ_TWICE
_NOTHING: frozenset[str] = frozenset()


def unknown_reads(recorded: RecordedDecision, decision: Decision) -> list[str]:
    """What the route of `decision`, by which the call is judged again, looks at and the record does
    not hold.  Nothing where that was not come to."""
    route, refusal = decision.route, decision.refusal
    reads = refusal is Reason.AMBIGUOUS_PATH or (refusal is not None and refusal in READ_TWICE)
    if not (decision.allowed or decision.evaluated or reads):
        return []
    if route is None:
        twice = decision.allowed and recorded.reason in READ_TWICE
        return [READ_TWICE[recorded.reason]] if twice else []
    if not reads_calls(route):
        return []
    return _names(recorded, route) + [READ_TWICE[one] for one in _twice(recorded, decision, route)]


def _names(recorded: RecordedDecision, route: Route) -> list[str]:
    """Those that are read and were not."""
    query, headers, body_names = _read_on(route)
    known_query, known_headers = recorded.query_names, recorded.header_names
    known_body = recorded.body_names
    if route.policy is None and recorded.beside is not None and recorded.beside.once is not None:
        # A limit counts by them, which is not judged again.
        known_query |= recorded.beside.once.get("query", _NOTHING)
        known_headers |= recorded.beside.once.get("headers", _NOTHING)
        known_body |= recorded.beside.once.get("body", _NOTHING)
    if recorded.beside is not None and not recorded.beside.has_query:
        query = _NOTHING
    unknown = [f"query parameter {name}" for name in sorted(query - known_query)]
    unknown += [f"header {name}" for name in sorted(headers - known_headers)]
    return unknown + [f"body field {name}" for name in sorted(body_names - known_body)]


def _twice(recorded: RecordedDecision, decision: Decision, route: Route) -> list[str]:
    """The refusals of a call that can be read in two ways of which nobody knows whether they came
    before the decision.  They come in this order; the first that is told of what is held, is so."""
    refusal = decision.refusal
    query, headers, _ = _read_on(route)
    if refusal is Reason.AMBIGUOUS_QUERY:
        held = recorded.query_held or recorded.query_names <= query
        return [] if held else [_QUERY]
    unknown = [] if _is_query_once(recorded, route) else [_QUERY]
    if refusal is Reason.AMBIGUOUS_HEADER:
        held = recorded.headers_held or recorded.header_names <= headers
        return unknown if held else [*unknown, _HEADERS]
    if refusal is Reason.BODY_MALFORMED:
        return unknown
    values = route.body_values
    is_left_out = values is not None and (
        # Of a body that a limit alone has read, nothing is held.
        _has_body(recorded) if route.policy is None else values.is_left_out(recorded.call.body)
    )
    if not is_left_out and _is_body_once(recorded, route):
        return unknown
    return [*unknown, _BODY]


def _is_query_once(recorded: RecordedDecision, route: Route) -> bool:
    """Whether the query is known to say nothing that is taken for what is read elsewhere."""
    beside, names = recorded.beside, beside_names(route)["path"]
    of_body = _NOTHING if route.beside_body is None else route.beside_body.names
    query, _, _ = _read_on(route)
    if beside is None:
        return recorded.reason != _QUERY or not (names or of_body or query)
    if query and recorded.call.method in WITHOUT_BODY and beside.has_body:
        return False  # a form in it may say what the query does not
    if not beside.has_query or not (names or of_body):
        return True
    if beside.once is None or not names <= beside.once.get("path", _NOTHING):
        return False
    # What is read of the query itself was looked for in one place less.
    looked_for = parts_of(recorded.body_names | beside.once.get("body", _NOTHING))
    return of_body <= looked_for - recorded.query_names - beside.once.get("query", _NOTHING)


def _has_body(recorded: RecordedDecision) -> bool:
    return recorded.beside is None or recorded.beside.has_body


def _is_body_once(recorded: RecordedDecision, route: Route) -> bool:
    """Whether what is read of the body is known to be there under no other name."""
    beside, body_names = recorded.beside, route.body_names
    if not body_names:
        return True
    if recorded.reason in READ_TWICE:
        return False
    if beside is None:
        return True
    if beside.once is None:
        return False
    # A part of a wrapper that is read itself is none that hides what lies beside it.
    parts = any("." in name for name in recorded.body_names - body_names)
    wrappers = beside_names(route)["wrappers"]
    return not parts and wrappers <= beside.once.get("wrappers", _NOTHING)


def _read_on(route: Route) -> tuple[frozenset[str], frozenset[str], frozenset[str]]:
    """The names of parameters, fields and fields of the body that a route looks at."""
    if route.policy is None:
        return route.query_names, route.header_names, route.body_names
    query, headers, body_names = read_by(route)
    return (
        _NOTHING if query is None else query.names,
        _NOTHING if headers is None else headers.names,
        body_names,
    )
