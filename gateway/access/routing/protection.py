"""Whether one route asks for something that another does not, of calls that both could send on.

Law: what a backend may be led to serve is protected by the route whose path it serves, whichever
way a call came there.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from gateway.access.conditions.conditions import Reads
from gateway.access.definitions import Limit
from gateway.access.routing.routes import Auth, Route, SegmentKind
from gateway.access.routing.spellings import is_index

_REFUSES_FROM = 400
_PARAMS, _RESOURCE = "params.", "resource."


def closes(route: Route) -> bool:
    """Whether a route refuses what it takes by an answer of its own, so that no backend has it.
    One for everything else closes nothing: it is there for what no other names."""
    answer = route.direct_response
    if answer is None or answer.status < _REFUSES_FROM:
        return False
    return _is_named(route)


def _is_named(route: Route) -> bool:
    """Whether its path holds a name, and not parameters alone."""
    return any(part.kind is SegmentKind.LITERAL for part in route.segments)


def named_by_letters(routes: Iterable[Route]) -> list[Route]:
    """Those of which the path holds a name, and not parameters alone."""
    return [route for route in routes if _is_named(route)]


def naming_ends(routes: Iterable[Route]) -> list[Route]:
    """Those that name the end of their path: what else may stand there need be no script."""
    return [route for route in routes if route.texts()[-1] != "*"]


def protects_otherwise(
    others: Collection[Route],
    route: Route,
    method: str,
    *,
    any_action: Collection[Route] = (),
    good_at: frozenset[str] | None = None,
) -> bool:
    """Whether one of them asks for something that `route` does not.

    `any_action`: those that may have another action.  `good_at`: the ids of the routes for which
    the caller's credential is good; None where it is not limited to any.
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
                or not (is_its_own or good_at is None or _is_good_at(good_at, other, route))
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


def tells_otherwise(
    others: Collection[Route],
    path: Sequence[str],
    route: Route,
    asked: Sequence[str],
    method: str,
    *,
    both_ways: bool = True,
) -> tuple[Route, str] | None:
    """The one of these of which a policy or a limit would be told of another tenant, or of another
    value that it reads, of `path` than of what was `asked` by `route`, and what that is (as `_told`
    names it): who has a tenant of the name `API` acts at `/API/theirs` for that, and not for the
    one of `/api/{tenant}`.  Both paths are folded.

    `both_ways`: so too where the policy is told by `route` of what it reads and would not be by
    the other.  A rewrite may have more to tell of what it leads to, and the page of a folder.
    """
    if not others:
        return None
    here = _told(route, asked)
    if both_ways and is_index(asked[-1] if asked else "") and tuple(path) == tuple(asked[:-1]):
        both_ways = False
    for other in _asked(others, method):
        told = _first_told_otherwise(other, _told(other, path), route, here, both_ways=both_ways)
        if told is not None:
            return other, told
    return None


def _is_good_at(good_at: frozenset[str], other: Route, route: Route) -> bool:
    """Whether a credential that is good for `route` opens what is the other's: one for any name,
    or for everything else, withholds nothing from one that has a name."""
    return other.id in good_at or (_is_named(route) and not _is_named(other))


def _first_told_otherwise(
    other: Route,
    there: Mapping[str, object],
    route: Route,
    here: Mapping[str, object],
    *,
    both_ways: bool,
) -> str | None:
    limits = [*other.limits, *_limits_of_rules(other)]
    counted = [limit.expression.reads for limit in limits if limit.expression is not None]
    for one in _named(counted, there):
        if there.get(one) != here.get(one):
            return one
    if route.policy is None or other.auth is Auth.PUBLIC:
        return None
    read = _named(_reads_of_rules(other), there)
    for one, value in there.items():
        if (one in read or not one.startswith(_PARAMS)) and (one not in here or here[one] != value):
            return one
    if both_ways:
        for one in _named(_reads_of_rules(route), here):
            if one in here and one not in there:
                return one
    return None


def _limits_of_rules(route: Route) -> list[Limit]:
    rules = () if route.action_rules is None else route.action_rules.allows
    return [limit for rule in rules for limit in rule.limits]


def _reads_of_rules(route: Route) -> list[Reads]:
    rules = () if route.action_rules is None else route.action_rules.rules
    return [rule.condition.reads for rule in rules if rule.condition is not None]


def _named(reads: Iterable[Reads], told: Iterable[str]) -> set[str]:
    """What is read of a path, as `_told` names it; of the resource as a whole each field."""
    named: set[str] = set()
    for one in reads:
        named.update(_PARAMS + name for name in one.params)
        named.update(_RESOURCE + name for name in one.resource)
        if one.whole_resource:
            named.update(key for key in told if key.startswith(_RESOURCE))
    return named


def _told(route: Route, path: Sequence[str]) -> dict[str, object]:
    """What the policy is told of a path: each parameter, each field of the resource with what fills
    it, and the tenant."""
    params: dict[str, str] = {}
    for segment, (at, value) in zip(route.segments, enumerate(path), strict=False):
        if segment.kind is not SegmentKind.LITERAL:
            is_rest = segment.kind is SegmentKind.REST
            # A number in other signs: what the route tells of it no text here says.
            told_value = value if is_rest or segment.takes(value) else f"\x00{value}"
            params[segment.text] = "/".join(path[at:]) if is_rest else told_value
    told: dict[str, object] = {_PARAMS + name: value for name, value in params.items()}
    told |= {
        _RESOURCE + field.name: tuple(
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
