"""The route of a call is found by specificity, whatever the order of the file."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.access.routing.own_paths import OwnPaths
from gateway.access.routing.patterns import read_pattern, reserved_path
from gateway.access.routing.route_table import Match, NoMatch, RouteTable
from gateway.access.routing.routes import Auth, Route, SegmentKind
from gateway.model import Reason
from tests.access.worlds import decide, problems, snapshot, who


def route(pattern: str, *methods: str, host: str | None = None, id: str = "") -> Route:
    segments = read_pattern(pattern)
    assert not isinstance(segments, str), segments
    hosts = () if host is None else (host,)
    return Route(id or f"{host}{pattern}{methods}", hosts, pattern, segments, methods, Auth.PUBLIC)


def found(table: RouteTable, path: str, method: str = "GET", host: str = "h") -> str | NoMatch:
    match = table.match(host, method, tuple(path[1:].split("/")))
    return match.route.pattern if isinstance(match, Match) else match


def grown(work: Callable[[], object]) -> int:
    """The bytes that `work` leaves behind."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        work()
        return tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()


PATTERNS = ["/a/b", "/a/{x:int}", "/a/{x:uuid}", "/a/{x}", "/a/{x:path}", "/{x}/b"]
UUID = "0f8fad5b-d9cb-469f-a165-70867728950e"


@pytest.mark.parametrize("seed", range(5))
def test_literal_goes_over_typed_over_plain_over_the_rest(seed: int) -> None:
    patterns = PATTERNS[:]
    random.Random(seed).shuffle(patterns)
    table = RouteTable(route(pattern) for pattern in patterns)
    assert found(table, "/a/b") == "/a/b"
    assert found(table, "/a/7") == "/a/{x:int}"
    assert found(table, f"/a/{UUID}") == "/a/{x:uuid}"
    assert found(table, "/a/c") == "/a/{x}"
    assert found(table, "/a/c/d") == "/a/{x:path}"
    assert found(table, "/z/b") == "/{x}/b"


def test_a_dead_end_is_left_for_the_next_best() -> None:
    table = RouteTable([route("/a/b/c"), route("/a/{x}/d"), route("/{y:path}")])
    assert found(table, "/a/b/c") == "/a/b/c"
    assert found(table, "/a/b/d") == "/a/{x}/d"
    assert found(table, "/a/b/e") == "/{y:path}"


def test_parameters_of_a_dead_end_are_forgotten() -> None:
    table = RouteTable([route("/{a:int}/x/{b}/y"), route("/{c}/x/{d:path}")])
    match = table.match("h", "GET", ("7", "x", "8", "z"))
    assert isinstance(match, Match)
    assert match.params == {"c": "7", "d": "8/z"}


def test_a_trailing_slash_is_another_path() -> None:
    table = RouteTable([route("/a")])
    assert found(table, "/a/") == NoMatch(Reason.ROUTE_UNKNOWN)


@pytest.mark.parametrize("path", ["/a/", "/a"])
def test_a_parameter_is_never_empty(path: str) -> None:
    table = RouteTable([route("/a/{x}"), route("/a/{x:path}"), route("/a/{x:int}")])
    assert found(table, path) == NoMatch(Reason.ROUTE_UNKNOWN)


@pytest.mark.parametrize("segment", ["-1", "1.0", "٣", "1a", "", "+1", "0x1"])
def test_an_int_is_ascii_digits_only(segment: str) -> None:
    table = RouteTable([route("/a/{x:int}")])
    assert found(table, f"/a/{segment}") == NoMatch(Reason.ROUTE_UNKNOWN)


def test_the_host_goes_first_and_none_is_the_fallback() -> None:
    table = RouteTable([route("/a", host="one"), route("/a/b"), route("/{x}", host=None)])
    match = table.match("one", "GET", ("a",))
    assert isinstance(match, Match)
    assert match.route.hosts == ("one",)
    assert found(table, "/a/b", host="one") == "/a/b"
    assert found(table, "/a", host="two") == "/{x}"


@pytest.mark.parametrize(
    ("written", "called"),
    [
        ("API.Example.com.", "api.example.com"),
        ("'[2001:DB8::0:1]'", "[2001:db8::1]"),
        ("10.0.0.1", "10.0.0.1"),
    ],
)
def test_a_host_is_matched_however_it_is_written(written: str, called: str) -> None:
    # CVE-2022-23632: a host with a final dot was another host.
    world = snapshot(
        f"- {{id: a, match: {{host: {written}, path: /a}}, auth: public, upstream: api}}"
    )
    assert isinstance(world.routes.match(called, "GET", ("a",)), Match)


def test_a_thousand_hosts_behave_as_one() -> None:
    # CVE-2026-27588: big lists of hosts were compared in another way than small ones.
    table = RouteTable(route("/a", host=f"h{i}.example") for i in range(1000))
    assert found(table, "/a", host="h999.example") == "/a"
    assert found(table, "/a", host="h1000.example") == NoMatch(Reason.ROUTE_UNKNOWN)


def test_a_known_path_answers_405_with_its_methods() -> None:
    table = RouteTable([route("/a", "GET"), route("/a", "POST", "PUT")])
    miss = NoMatch(Reason.METHOD_NOT_ALLOWED, ("GET", "HEAD", "POST", "PUT"))
    assert found(table, "/a", "DELETE") == miss


def test_a_less_specific_route_never_takes_over_a_method() -> None:
    table = RouteTable([route("/a/b", "GET"), route("/{x:path}")])
    assert found(table, "/a/b", "DELETE") == NoMatch(Reason.METHOD_NOT_ALLOWED, ("GET", "HEAD"))


def test_get_admits_head_and_a_route_for_head_goes_first() -> None:
    assert found(RouteTable([route("/a", "GET")]), "/a", "HEAD") == "/a"
    table = RouteTable([route("/a", "GET", id="get"), route("/a", "HEAD", id="head")])
    match = table.match("h", "HEAD", ("a",))
    assert isinstance(match, Match)
    assert match.route.id == "head"


@pytest.mark.parametrize("part", ["method", "path", "host"])
def test_what_a_stranger_makes_up_is_not_remembered_at_length(part: str) -> None:
    table = RouteTable([route("/{x:path}")])

    def ask(number: int) -> None:
        made_up = "A" * 4_096 + str(number)
        method, path, host = (made_up if part == one else "x" for one in ("method", "path", "host"))
        assert found(table, f"/{path}", method, host) == "/{x:path}"

    ask(0)
    assert grown(lambda: list(map(ask, range(300)))) < 300 * 4_096 // 4


def test_methods_are_told_apart_by_case() -> None:
    assert isinstance(found(RouteTable([route("/a", "GET")]), "/a", "get"), NoMatch)


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (route("/a/{x}", id="1"), route("/a/{y}", id="2")),
        (route("/a", "GET", id="1"), route("/a", id="2")),
        (route("/a", id="1"), route("/a", "GET", id="2")),
        (route("/a", "GET", "POST", id="1"), route("/a", "POST", id="2")),
        (route("/{x:path}", id="1"), route("/{y:path}", id="2")),
        (route("/a", host="h", id="1"), route("/a", host="h", id="2")),
    ],
)
def test_two_routes_that_match_the_same_call_collide(one: Route, two: Route) -> None:
    table = RouteTable()
    assert table.insert(one) is None
    assert table.insert(two) is one


def test_a_refused_route_leaves_nothing_behind() -> None:
    table = RouteTable([route("/a", "POST")])
    assert table.insert(route("/a", "GET", "POST")) is not None
    assert isinstance(found(table, "/a", "GET"), NoMatch)


@pytest.mark.parametrize(
    "path", ["/auth", "/auth/login", "/auth/x/y", "/.well-known/jwks.json",
             "/.well-known/oauth-authorization-server", "/.well-known/oauth-protected-resource"]
)  # fmt: skip
def test_no_route_takes_a_path_of_the_gateways_own(path: str) -> None:
    table = RouteTable([route("/{x:path}"), route("/.well-known/{x}")])
    assert found(table, path) == NoMatch(Reason.ROUTE_UNKNOWN)


@pytest.mark.parametrize(
    "pattern",
    ["/auth", "/auth/login", "/auth/{x}", "/auth/{x:path}", "/{x}", "/{x}/b", "/{x:path}",
     "/.well-known/jwks.json", "/.well-known/{x}", "/.well-known/{x:path}"],
)  # fmt: skip
def test_a_route_that_would_match_an_own_path_is_a_load_error(pattern: str) -> None:
    said = problems(f"- {{id: a, match: {{path: '{pattern}'}}, auth: public, upstream: api}}")
    assert len(said) == 1
    assert "which the gateway answers itself" in said[0]


@pytest.mark.parametrize("pattern", ["/authors", "/a/auth", "/{x:int}", "/.well-known/acme", "/"])
def test_other_paths_are_free(pattern: str) -> None:
    segments = read_pattern(pattern)
    assert not isinstance(segments, str)
    assert reserved_path(segments, None, OwnPaths()) is None


def test_a_catch_all_says_that_it_leaves_the_own_paths_alone() -> None:
    world = snapshot(
        "- {id: all, match: {path: '/{x:path}', except_reserved: true}, auth: public, upstream: api}"
    )
    assert decide(world, "GET /anything/else").allowed
    assert decide(world, "GET /auth/login").reason == Reason.ROUTE_UNKNOWN


@pytest.mark.parametrize(
    "pattern",
    ["a", "", "/a//b", "/a/../b", "/a/./b", "/a;b", "/%2e%2e", "/{x", "/x}", "/a{x}", "/{x}b",
     "/{1x}", "/{x:float}", "/{x:path}/b", "/{x}/{x}", "/a%2", "/a\\b", "/{}"],
)  # fmt: skip
def test_a_pattern_that_no_call_could_match_is_refused(pattern: str) -> None:
    assert isinstance(read_pattern(pattern), str)


def test_a_pattern_may_be_written_encoded_or_plain() -> None:
    for pattern in ("/caf%C3%A9", "/café"):
        segments = read_pattern(pattern)
        assert not isinstance(segments, str)
        assert segments[0].text == "café"


SEGMENTS = st.sampled_from(["a", "b", "7", UUID])
PARTS = st.sampled_from(["a", "b", "{x:int}", "{x:uuid}", "{x}"])


def _patterns(parts: list[str], rest: bool) -> str:
    named = [part.replace("x", f"x{i}") for i, part in enumerate(parts)]
    return "/" + "/".join([*named, "{r:path}"] if rest else named)


@given(
    st.lists(
        st.builds(_patterns, st.lists(PARTS, min_size=1, max_size=4), st.booleans()), max_size=12
    ),
    st.lists(SEGMENTS, min_size=1, max_size=5),
    st.randoms(use_true_random=False),
)
def test_the_trie_finds_what_a_sorted_list_finds(
    patterns: list[str], segments: list[str], shuffle: random.Random
) -> None:
    routes = [route(pattern) for pattern in patterns]
    shuffle.shuffle(routes)
    kept = []
    table = RouteTable()
    for one in routes:
        if table.insert(one) is None:
            kept.append(one)
    order = [
        SegmentKind.LITERAL,
        SegmentKind.INT,
        SegmentKind.UUID,
        SegmentKind.PLAIN,
        SegmentKind.REST,
    ]

    def matches(one: Route) -> bool:
        parts = one.segments
        if parts[-1].kind is SegmentKind.REST:
            if len(segments) < len(parts):
                return False
        elif len(segments) != len(parts):
            return False
        return all(part.takes(given) for part, given in zip(parts, segments, strict=False))

    fitting = sorted(
        (one for one in kept if matches(one)),
        key=lambda one: [order.index(part.kind) for part in one.segments],
    )
    match = table.match("h", "GET", tuple(segments))
    if fitting:
        assert isinstance(match, Match)
        assert match.route is fitting[0]
    else:
        assert match == NoMatch(Reason.ROUTE_UNKNOWN)


# Rewrites


def rewritten(rewrite: str, path: str, request: str, more: str = "") -> str:
    world = snapshot(
        f"- {{id: a, match: {{path: '{path}'}}, auth: public, upstream: api, "
        f"rewrite: {rewrite}{more}}}"
    )
    decision = decide(world, f"GET {request}")
    return decision.target if decision.allowed else str(decision.reason)


def test_without_a_rewrite_the_bytes_go_as_they_came() -> None:
    world = snapshot("- {id: a, match: {path: '/a/{x}'}, auth: public, upstream: api}")
    assert decide(world, "GET /%61/%7Eb?q=%41").target == "/%61/%7Eb?q=%41"


@pytest.mark.parametrize(
    ("rewrite", "path", "request_path", "sent"),
    [
        ("{strip_prefix: /v1}", "/v1/{x:path}", "/v1/a%20b/c?q=1", "/a%20b/c?q=1"),
        ("{strip_prefix: /v1}", "/v1", "/v1", "/"),
        ("{strip_prefix: /v1}", "/v1/", "/v1/", "/"),
        ("{strip_prefix: /v1/x}", "/v1/x/{y}", "/%761/x/7", "/7"),
        ("{add_prefix: /api}", "/a", "/a", "/api/a"),
        ("{strip_prefix: /v1, add_prefix: /v2}", "/v1/{x}", "/v1/7", "/v2/7"),
        ("{path: '/u/{y}/o/{x}'}", "/a/{x}/{y}", "/a/1%20/2", "/u/2/o/1%20"),
        ("{path: '/all/{x}'}", "/a/{x:path}", "/a/b/c", "/all/b/c"),
    ],
)
def test_a_rewrite_works_on_whole_segments(
    rewrite: str, path: str, request_path: str, sent: str
) -> None:
    assert rewritten(rewrite, path, request_path) == sent


def test_a_value_in_a_rewritten_path_stays_one_segment() -> None:
    # CVE-2025-48370: an unchecked id in a URL reached another endpoint.
    sent = rewritten("{path: '/users/{id}/profile'}", "/u/{id}", "/u/a%3Fb%23c")
    assert sent == "/users/a%3Fb%23c/profile"


def test_a_rewritten_path_is_held_to_the_rules() -> None:
    slash = rewritten("{path: '/x/{id}'}", "/u/{id}", "/u/a%2Fb", ", allow_encoded_slash: true")
    assert slash == "/x/a%2Fb"
    assert rewritten("{path: '/x/{id}'}", "/u/{id}", "/u/a%2Fb") == Reason.AMBIGUOUS_PATH


GUARDED = """
- {id: public, match: {path: '/public/{x:path}'}, auth: public, upstream: api,
   rewrite: {strip_prefix: /public}}
- {id: admin, match: {path: '/admin/{x}', methods: [GET]}, policy: signed-in, upstream: api}
- {id: other, match: {path: '/elsewhere/{x}'}, policy: signed-in, upstream: other}
- {id: open, match: {path: '/open/{x}'}, auth: public, upstream: api}
"""


def test_a_rewrite_cannot_reach_the_path_of_a_protected_route() -> None:
    # CVE-2026-40912: rewritten after the decision, a path turned into a protected one.
    world = snapshot(GUARDED)
    for path in ("/public/admin/7", "/public/%61dmin/7"):
        assert decide(world, f"GET {path}").reason == Reason.AMBIGUOUS_PATH
    assert decide(world, "DELETE /public/admin/7").reason == Reason.AMBIGUOUS_PATH


def test_a_rewrite_may_reach_what_is_free_or_elsewhere() -> None:
    world = snapshot(GUARDED)
    assert decide(world, "GET /public/open/7").target == "/open/7"
    assert decide(world, "GET /public/elsewhere/7").target == "/elsewhere/7"


def test_a_rewrite_to_a_route_with_the_same_protection_passes() -> None:
    world = snapshot(
        """
        - {id: v1, match: {path: '/v1/{x:path}'}, policy: signed-in, upstream: api,
           rewrite: {strip_prefix: /v1}}
        - {id: v0, match: {path: '/orders/{x}'}, policy: signed-in, upstream: api}
        """
    )
    assert decide(world, "GET /v1/orders/7", who()).target == "/orders/7"
