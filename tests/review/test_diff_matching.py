"""What `diff` tells of prefixes and hosts is what both sides decide, path by path."""

from __future__ import annotations

from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.access.routing.patterns import read_pattern, read_prefix
from gateway.access.routing.route_table import Match, RouteTable
from gateway.access.routing.routes import Auth, Route
from gateway.access.snapshot import Snapshot
from gateway.model import Reason
from gateway.review.changes import AccessChange
from gateway.review.diff import compare
from tests.access.worlds import built, decide

HOSTS = ["", "hosts: [a.x.example]", "hosts: ['*.x.example']", "hosts: [a.x.example, b.x.example]"]
MATCHES = [
    "path: /p", "path: /p/", "path: '/p/{x}'", "path: '/p/{x:path}'", "path: /p/q", "path: '/p/{x:int}'",
    "prefix: /p", "prefix: /p/q", "prefix: '/p/{x}'", "prefix: /, except_reserved: true",
]  # fmt: skip
ROUTE = st.tuples(st.sampled_from(HOSTS), st.sampled_from(MATCHES), st.booleans())
WORLDS = st.lists(ROUTE, max_size=4)
PATHS = [
    "/",
    "/p",
    "/p/",
    "/p/q",
    "/p/q/",
    "/p/q/r",
    "/p/7",
    "/p/7/",
    "/p/z",
    "/p/z/r",
    "/other",
    "/other/y",
]
ASKED_HOSTS = ["a.x.example", "b.x.example", "c.x.example", "x.example", "elsewhere.example"]


def world(routes: list[tuple[str, str, bool]]) -> Snapshot | None:
    lines = ["- {id: z, match: {path: /fixed, methods: [PUT]}, auth: public, upstream: api}"]
    for number, (hosts, match, public) in enumerate(routes):
        who = "auth: public" if public else "policy: signed-in"
        inside = ", ".join(filter(None, (hosts, match)))
        lines.append(f"- {{id: r{number}, match: {{{inside}}}, {who}, upstream: api}}")
    found = built("\n".join(lines))
    return found if isinstance(found, Snapshot) else None


def covers(change: AccessChange, host: str, path: str) -> bool:
    """Whether the change speaks of this path: as if it were a route."""
    hosts = () if change.host is None else (change.host,)
    name = change.pattern.removesuffix("/**")
    is_prefix = name != change.pattern
    segments = read_prefix(name or "/") if is_prefix else read_pattern(change.pattern)
    assert not isinstance(segments, str)
    route = Route("c", hosts, change.pattern, segments, auth=Auth.PUBLIC, is_prefix=is_prefix)
    return isinstance(RouteTable([route]).match(host, "GET", tuple(path[1:].split("/"))), Match)


@settings(max_examples=60, deadline=None)
@given(WORLDS, WORLDS)
# The first path that finds both routes, /p/q/, is refused on one side.
@example(
    [("", "path: '/p/{x:path}'", True), ("", "prefix: /p/q", False)],
    [
        ("hosts: [a.x.example]", "path: '/p/{x}'", False),
        ("hosts: [a.x.example]", "path: '/p/{x:path}'", True),
    ],
)
def test_each_path_that_changes_is_told_and_no_whole_line_is_wrong(
    old: list[tuple[str, str, bool]], new: list[tuple[str, str, bool]]
) -> None:
    sides = [side for side in map(world, (old, new)) if side is not None]
    if len(sides) < 2:
        return
    changes = [change for change in compare(*sides).changes if change.signed is not True]
    for host in ASKED_HOSTS:
        for path in PATHS:
            decisions = [decide(side, f"GET http://{host}{path}") for side in sides]
            if any(one.reason is Reason.AMBIGUOUS_PATH for one in decisions):
                continue  # it is told with the path that it may be taken for
            before, after = (one.allowed for one in decisions)
            told = [one for one in changes if covers(one, host, path) and "GET" in one.methods]
            if before != after:
                assert any(one.gains is after for one in told), (
                    host,
                    path,
                    list(map(str, changes)),
                )
