"""What else a backend may take a call for, on a route with `paths: files`.

Law: all of it is the same route's.  A path that some backend reads as another route's is refused,
since nobody judged it by the policy of that one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from gateway.access.routing.path_readings import other_readings
from gateway.access.routing.paths import canonical, encoded
from gateway.access.routing.route_table import Match, NoMatch, RouteTable
from gateway.access.routing.routes import Route
from gateway.model import Call, Reason

Readings = Sequence[tuple[Call, Match]]
"""The other calls that the backend may see, as they are to be judged."""


def readings_of(call: Call, match: Match | NoMatch, routes: RouteTable) -> Readings | None:
    """The other readings of a call that is `files_only`, where a policy judges them; None where
    it may not pass at all."""
    if not isinstance(match, Match):
        # The methods of a route that takes such paths are told as ever, and nothing of another's.
        return () if routes.admits_files(call.host, call.segments) else None
    others = other_readings(call.path) if match.route.takes_files else None
    if others is None:
        return None
    found: list[tuple[Call, Match]] = []
    for segments in others:
        other = routes.match(call.host, call.method, segments)
        if not isinstance(other, Match) or other.route is not match.route:
            return None
        if match.route.policy is not None:
            path = "/" + encoded("/".join(segments), between="/")
            found.append((replace(call, path=path, segments=segments), other))
    return found


def bypasses_route(sent: str, call: Call, route: Route, routes: RouteTable) -> bool:
    """Whether the target that a rewrite of `route` made is another route's, in some reading."""
    path = sent.partition("?")[0]
    read = canonical(path, files=route.takes_files)
    if isinstance(read, Reason):
        return True
    others = other_readings(path) if read.files_only else []
    return others is None or any(
        routes.bypasses_route(route, call.method, segments) for segments in (read.segments, *others)
    )
