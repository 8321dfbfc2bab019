"""The fields that a backend receives because the configuration says so, for people to see.

What the edge writes of every call (`Host`, `X-Forwarded-*`, `X-Request-Id`, the body's framing)
and what is the client's own is not among them.
"""

from __future__ import annotations

from gateway.access.authorizer import Decision
from gateway.access.snapshot import Snapshot

ASSERTION = "X-Auth-Assertion"
MADE_FOR_EACH_CALL = "(signed for each call)"


def sent_headers(decision: Decision) -> dict[str, str]:
    """Name and value of each; none where the call does not reach a backend."""
    route = decision.route
    if not decision.allowed or route is None or route.upstream is None:
        return {}
    written = () if route.request is None else route.request.fields
    sent = {name: str(value) for name, value in written}
    sent |= dict(decision.headers)
    if decision.principal is not None:
        sent |= dict(route.identity.texts(decision.principal))
        if route.upstream.assertion_audience is not None:
            sent[ASSERTION] = MADE_FOR_EACH_CALL
    return sent


def written_headers(snapshot: Snapshot) -> set[str]:
    """The names of all that any call of this configuration could be sent with."""
    names = {
        name for policy in snapshot.policies.values() for r in policy.rules for name, _ in r.headers
    }
    for route in snapshot.routes:
        if route.upstream is None:
            continue
        names |= {one.name for one in route.identity.fields}
        names |= {name for name, _ in route.request.fields} if route.request is not None else set()
        names |= {ASSERTION} if route.upstream.assertion_audience is not None else set()
    return names
