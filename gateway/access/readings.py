"""What else a backend may take a call for, on a route with `paths: files` or with
`allow_encoded_slash`; and the path that a COPY or MOVE writes.

Law: what some backend reads as another path is judged as that path too, and is refused where it is
a route's whose policy did not judge it.  With `paths: files` that is every other route's.  A slash
that came encoded stands in names that are no path of any route, so there it is what another route
protects in front of the same upstream.  What is written has to be of the same route, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from gateway.access.routing.destinations import MOVING, moved_to
from gateway.access.routing.path_readings import other_readings
from gateway.access.routing.paths import canonical, encoded
from gateway.access.routing.reading_budget import ReadingBudget
from gateway.access.routing.repeated_prefixes import sent_again
from gateway.access.routing.route_table import Match, NoMatch, RouteTable
from gateway.access.routing.routes import Route
from gateway.access.routing.spellings import MOST_SPELLINGS
from gateway.model import Call, Reason

Readings = Sequence[tuple[Call, Match]]
"""The other calls that the backend may see, as they are to be judged."""


def has_readings(call: Call) -> bool:
    """Whether `readings_of` is to be asked."""
    return call.files_only or call.encoded_slash or call.method in MOVING


def readings_of(
    call: Call,
    match: Match | NoMatch,
    routes: RouteTable,
    good_at: frozenset[str] | None = None,
) -> Readings | None:
    """The other readings of a call that is `files_only` or has an encoded slash, and of the path
    that it writes, where a policy judges them; None where it may not pass at all.

    `good_at`, here and below: the ids of the routes for which the credential is good, of one that
    is limited to some.
    """
    if not isinstance(match, Match):
        # The methods of a route that takes such paths are told as ever, and nothing of another's.
        known = not call.files_only or routes.admits_files(call.host, call.segments)
        return () if known else None
    budget = ReadingBudget()
    readings = _readings_of_path(call, match, routes, budget, good_at)
    moved = moved_to(call) if call.method in MOVING else None
    if readings is None or moved is None:
        return readings
    # A backend reads it in its own words, which a rewrite does not tell.
    if isinstance(moved, Reason) or match.route.rewrite is not None:
        return None
    if not _has_room(budget, moved.segments, routes):
        return None
    other = routes.match(moved.host, moved.method, moved.segments)
    if not isinstance(other, Match) or other.route is not match.route or other.read_elsewhere:
        return None
    more = _readings_of_path(moved, other, routes, budget, good_at)
    if more is None or match.route.policy is None:
        return more
    return [*readings, (moved, other), *more]


def _readings_of_path(
    call: Call,
    match: Match,
    routes: RouteTable,
    budget: ReadingBudget,
    good_at: frozenset[str] | None,
) -> Readings | None:
    route = match.route
    if call.encoded_slash and not route.allow_encoded_slash:
        return None
    if good_at is not None and _is_anothers(call, route, routes, call.segments, good_at):
        return None
    others = _others(call, route, budget)
    if others is None:
        return None
    found: list[tuple[Call, Match]] = []
    more = 0
    for segments in others:
        # All of them are compared with all routes, and whoever asks need not be anybody.
        spelled = routes.spellings(segments, most_letters=budget.left)
        more += len(spelled.paths) - 1
        if more > MOST_SPELLINGS or not budget.takes_spellings(spelled):
            return None
        other = routes.match(call.host, call.method, segments)
        if not isinstance(other, Match) or other.route is not route or other.read_elsewhere:
            return None
        if good_at is not None and _is_anothers(call, route, routes, segments, good_at):
            return None
        if route.policy is not None:
            found.append((_as_read(call, segments), other))
    if call.encoded_slash:
        for segments in _parted((call.segments, *others)):
            if not _has_room(budget, segments, routes) or routes.bypasses_route(
                route, call.method, segments, good_at=good_at
            ):
                return None
            if routes.is_protected_elsewhere(
                route, call.host, call.method, segments, judged=True, good_at=good_at
            ):
                return None
            other = routes.match(call.host, call.method, segments)
            if not isinstance(other, Match):
                continue
            if other.read_elsewhere or _lacks_body(other.route, route):
                return None
            if route.policy is not None and other.route.policy is route.policy:
                found.append((_as_read(call, segments), other))
    return found


def is_anothers(call: Call, match: Match, routes: RouteTable, good_at: frozenset[str]) -> bool:
    """Whether a backend may take a call for that of a route for which the credential is not good,
    in whatever reading of its path."""
    if has_readings(call):
        return readings_of(call, match, routes, good_at) is None
    return _is_anothers(call, match.route, routes, call.segments, good_at)


def _is_anothers(
    call: Call,
    route: Route,
    routes: RouteTable,
    segments: tuple[str, ...],
    good_at: frozenset[str],
) -> bool:
    return routes.is_read_elsewhere(route, call.host, call.method, segments, good_at)


def _has_room(budget: ReadingBudget, segments: tuple[str, ...], routes: RouteTable) -> bool:
    """Whether there is room for a path, and for what it is compared as."""
    return budget.takes("/".join(segments)) and budget.takes_spellings(
        routes.spellings(segments, most_letters=budget.left)
    )


def _lacks_body(other: Route, route: Route) -> bool:
    """Whether the policy would be asked about a call of `other` without the body that it reads."""
    return other.reads_body and not route.reads_body and other.policy is route.policy


def bypasses_route(
    sent: str,
    call: Call,
    route: Route,
    routes: RouteTable,
    good_at: frozenset[str] | None = None,
) -> bool:
    """Whether the target that a rewrite of `route` made is another route's, in some reading."""
    path = sent.partition("?")[0]
    read = canonical(path, files=route.takes_files)
    if isinstance(read, Reason):
        return True
    budget = ReadingBudget()
    others = other_readings(path, budget) if read.files_only else []
    if others is None:
        return True
    every = [read.segments, *others]
    more = _parted(every)
    more += [left for one in (*every, *more) for left in sent_again(route, one)]
    if not all(budget.takes("/".join(segments)) for segments in more):
        return True
    return any(
        not budget.takes_spellings(routes.spellings(segments, most_letters=budget.left))
        or routes.bypasses_route(route, call.method, segments, asked=call.segments, good_at=good_at)
        for segments in (*every, *more)
    )


def _others(call: Call, route: Route, budget: ReadingBudget) -> list[tuple[str, ...]] | None:
    if not call.files_only:
        return []
    return other_readings(call.path, budget) if route.takes_files else None


def _as_read(call: Call, segments: tuple[str, ...]) -> Call:
    path = "/" + encoded("/".join(segments), between="/")
    return replace(call, path=path, segments=segments)


def _parted(readings: Iterable[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Those that hold an encoded slash, as a backend reads them that decodes first and splits
    then."""
    parted = ((segments, tuple("/".join(segments).split("/"))) for segments in readings)
    return [split for segments, split in parted if split != segments]
