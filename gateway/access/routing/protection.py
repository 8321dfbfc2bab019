"""Whether one route asks for something that another does not, of calls that both could send on.

Law: what a backend may be led to serve is protected by the route whose path it serves, whichever
way a call came there.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from gateway.access.routing.routes import Auth, Route, SegmentKind

_REFUSES_FROM = 400


def closes(route: Route) -> bool:
    """Whether a route refuses what it takes by an answer of its own, so that no backend has it.
    One for everything else closes nothing: it is there for what no other names."""
    answer = route.direct_response
    if answer is None or answer.status < _REFUSES_FROM:
        return False
    return any(part.kind is SegmentKind.LITERAL for part in route.segments)


def naming_ends(routes: Iterable[Route]) -> list[Route]:
    """Those that name the end of their path: what else may stand there need be no script."""
    return [route for route in routes if route.texts()[-1] != "*"]


def protects_otherwise(
    others: Collection[Route],
    route: Route,
    method: str,
    *,
    judged: bool,
    any_action: Collection[Route] = (),
) -> bool:
    """Whether one of them asks for something that `route` does not.

    `judged`: the policy is asked about the path of the other as well, with what it says.
    `any_action`: those that may have another action.
    """
    is_its_own = any(other is route for other in others)
    asked = _asked(others, method)
    return any(map(closes, asked)) or any(
        not (is_its_own or _counts_as_much(other, route))
        or (
            other.auth is not Auth.PUBLIC
            and (
                other.policy is not route.policy
                or (other.action != route.action and other not in any_action)
                or not (is_its_own or _takes_whom(other, route))
                or not (is_its_own or judged or _tells_as_much(other, route))
            )
        )
        for other in asked
    )


def _asked(others: Collection[Route], method: str) -> Collection[Route]:
    """Those that take the method; where none does, all."""
    return [one for one in others if not one.methods or method in one.methods] or others


def _counts_as_much(other: Route, route: Route) -> bool:
    """Whether each limit of `other` counts the calls of `route`, too: who tries passwords at
    `/login` would have as many tries as they like at `/LOGIN`."""
    counted = {limit.name for limit in route.limits}
    return all(limit.name in counted for limit in other.limits)


def _tells_as_much(other: Route, route: Route) -> bool:
    """Whether the policy learns by `route` for which tenant a caller acts, and each field of the
    resource, where it does by `other`: else it would be asked about the tenant of the session, and
    a rule about a field (`has(resource.owner) && …`) would find none."""
    if route.policy is None:
        return True
    told = {field.name for field in route.resource}
    return (other.tenant is None or route.tenant is not None) and all(
        field.name in told for field in other.resource
    )


def tells_otherwise(
    others: Collection[Route], path: Sequence[str], route: Route, asked: Sequence[str], method: str
) -> bool:
    """Whether the policy would be told of another tenant, or of another value in a field, of `path`
    by one of its routes than of what was `asked` by `route`: who has a tenant of the name `API`
    acts at `/API/theirs` for that, and not for the one of `/api/{tenant}`.  Both paths are folded.
    """
    if route.policy is None:
        return False
    told = _told(route, asked)
    return any(
        other.auth is not Auth.PUBLIC and not _told(other, path).items() <= told.items()
        for other in _asked(others, method)
    )


def _told(route: Route, path: Sequence[str]) -> dict[str, object]:
    """What the policy is told of a path: the tenant, and each field, with what fills it."""
    params: dict[str, str] = {}
    for segment, (at, value) in zip(route.segments, enumerate(path), strict=False):
        if segment.kind is not SegmentKind.LITERAL:
            is_rest = segment.kind is SegmentKind.REST
            # A number in other signs: what the route tells of it no text here says.
            told_value = value if is_rest or segment.takes(value) else f"\x00{value}"
            params[segment.text] = "/".join(path[at:]) if is_rest else told_value
    told: dict[str, object] = {
        f"resource.{field.name}": tuple(
            (piece.source, params.get(piece.text) if piece.source == "params" else piece.text)
            for piece in field.template.pieces
        )
        for field in route.resource
    }
    if route.tenant is not None:
        told["tenant"] = params.get(route.tenant)
    return told


def _takes_whom(other: Route, route: Route) -> bool:
    """Whether `other` asks every caller whom `route` takes for no more than `route` does, before
    the policy is asked: to be signed in, a credential of certain kinds, a token of certain issuers,
    for a resource, with scopes, and for a cookie a page of certain origins.
    """
    if route.auth is Auth.PUBLIC:
        return True  # as neither has a policy, strangers pass there too
    if other.auth is Auth.REQUIRED and route.auth is Auth.OPTIONAL:
        return False
    if not (route.issuers <= other.issuers and route.accept <= other.accept):
        return False
    if not _trusted_origins(route) <= _trusted_origins(other):
        return False
    asked, met = other.resource_server, route.resource_server
    if asked is None:
        return True
    return met is not None and met.path == asked.path and set(asked.scopes) <= set(met.scopes)


def _trusted_origins(route: Route) -> frozenset[str]:
    """Whose pages may send the cookie along, besides those of the gateway's own origins."""
    cors = route.cors
    return cors.origins if cors is not None and cors.credentials else frozenset()
