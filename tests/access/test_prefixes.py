"""One route for everything below a name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.access.explanation import explain
from gateway.access.routing.patterns import read_pattern, read_prefix
from gateway.access.routing.route_table import Match, NoMatch, RouteTable
from gateway.access.routing.routes import Auth, Route
from gateway.access.simulation import FixedClock, SimulatedRequest, simulate
from gateway.access.snapshot import Snapshot
from gateway.model import Reason
from tests.access.worlds import NOW, decide, problems, snapshot, who


def route(text: str, *methods: str, prefix: bool = False) -> Route:
    segments = read_prefix(text) if prefix else read_pattern(text)
    assert not isinstance(segments, str), segments
    name = f"{text.rstrip('/')}/**" if prefix else text
    return Route(f"{name}{methods}", (), name, segments, methods, Auth.PUBLIC, is_prefix=prefix)


def found(table: RouteTable, path: str, method: str = "GET") -> str | NoMatch:
    match = table.match("h", method, tuple(path[1:].split("/")))
    return match.route.pattern if isinstance(match, Match) else match


def world(*routes: str, head: str = "auth: public, upstream: api") -> Snapshot:
    return snapshot("\n".join(f"- {{{one}, {head}}}" for one in routes))


@pytest.mark.parametrize("path", ["/app", "/app/", "/app/a", "/app/a/", "/app/a/b/c/d", "/app/..."])
def test_a_prefix_takes_its_name_the_slash_and_all_below(path: str) -> None:
    one = world("id: a, match: {prefix: /app}")
    assert decide(one, f"GET {path}").allowed
    assert decide(one, f"GET {path}?q=1").target == f"{path}?q=1"


@pytest.mark.parametrize("path", ["/", "/ap", "/apps", "/app1/x", "/APP", "/x/app", "/app%2fx"])
def test_a_prefix_is_whole_segments(path: str) -> None:
    assert not decide(world("id: a, match: {prefix: /app}"), f"GET {path}").allowed


@pytest.mark.parametrize("path", ["/app//x", "/app/../x", "/app/..;/x", "/app/%2e%2e/x", "/app//"])
def test_below_a_prefix_no_path_is_ambiguous(path: str) -> None:
    decision = decide(world("id: a, match: {prefix: /app}"), f"GET {path}")
    assert decision.reason == Reason.AMBIGUOUS_PATH


def test_any_longer_or_exact_pattern_goes_over_a_prefix() -> None:
    table = RouteTable(
        [
            route("/app", prefix=True),
            route("/app/x"),
            route("/app/{n:int}"),
            route("/app/x/y", prefix=True),
            route("/", prefix=True),
        ]
    )
    assert found(table, "/app") == "/app/**"
    assert found(table, "/app/x") == "/app/x"
    assert found(table, "/app/7") == "/app/{n:int}"
    assert found(table, "/app/x/y") == "/app/x/y/**"
    assert found(table, "/app/x/z") == "/app/**"
    assert found(table, "/app/x/") == "/app/**"
    assert found(table, "/") == "/**"
    assert found(table, "/other") == "/**"


def test_the_exact_name_beside_a_prefix_is_its_own_route() -> None:
    table = RouteTable([route("/app", prefix=True), route("/app", "GET"), route("/app/", "GET")])
    assert found(table, "/app") == "/app"
    assert found(table, "/app/") == "/app/"
    assert found(table, "/app", "POST") == NoMatch(Reason.METHOD_NOT_ALLOWED, ("GET", "HEAD"))
    assert found(table, "/app/x", "POST") == "/app/**"


@pytest.mark.parametrize("turned", [False, True])
def test_a_rest_in_the_same_place_is_a_conflict_unless_the_methods_differ(turned: bool) -> None:
    rest, prefix = "id: r, match: {path: '/app/{x:path}'%s}", "id: p, match: {prefix: /app%s}"
    pair = [rest % "", prefix % ""][:: -1 if turned else 1]
    (said,) = problems("\n".join(f"- {{{one}, auth: public, upstream: api}}" for one in pair))
    assert "can match the same request as route" in said
    one = world(rest % ", methods: [GET]", prefix % ", methods: [POST]")
    assert decide(one, "GET /app/x").route is one.routes.get("r")
    assert decide(one, "POST /app/x").route is one.routes.get("p")
    assert decide(one, "PUT /app/x").allow == ("GET", "HEAD", "POST")
    assert decide(one, "GET /app").allow == ("POST",)


def test_two_prefixes_of_one_name_conflict() -> None:
    said = problems(
        "- {id: a, match: {prefix: /app}, auth: public, upstream: api}\n"
        "- {id: b, match: {prefix: /app}, auth: public, upstream: other}\n"
    )
    assert ["`/app/**` can match the same request as route `a`" in one for one in said] == [True]


def test_a_parameter_may_stand_in_a_prefix() -> None:
    one = snapshot(
        "- {id: a, match: {prefix: '/user/{name}'}, policy: p, upstream: api}",
        "policy: p\nrules: [{id: own, allow: ['*'], when: request.params.name == user.id}]",
    )
    for path in ("/user/ann", "/user/ann/", "/user/ann/lab/tree"):
        assert decide(one, f"GET {path}", who("ann")).allowed
        assert not decide(one, f"GET {path}", who("ben")).allowed
    assert decide(one, "GET /user/", who("ann")).reason == Reason.ROUTE_UNKNOWN


def test_the_prefix_of_everything_leaves_the_own_paths_out() -> None:
    one = world("id: a, match: {prefix: /, except_reserved: true}")
    for path in ("/", "/x", "/x/", "/.well-known/other", "/authors"):
        assert decide(one, f"GET {path}").allowed
    for path in ("/auth", "/auth/", "/auth/login", "/.well-known/jwks.json"):
        assert decide(one, f"GET {path}").reason == Reason.ROUTE_UNKNOWN


@pytest.mark.parametrize(
    ("match", "said"),
    [
        ("prefix: /", "`except_reserved: true`"),
        ("prefix: '/{name}'", "`except_reserved: true`"),
        ("prefix: /auth, except_reserved: true", "which the gateway answers itself"),
        ("prefix: /auth/x", "which the gateway answers itself"),
        ("prefix: /.well-known", "which the gateway answers itself"),
        ("prefix: /.well-known/jwks.json", "which the gateway answers itself"),
        ("prefix: /app/", "leave the last `/` out: `/app`"),
        ("prefix: '/app/{x:path}'", "leave `/{x:path}` out"),
        ("prefix: app", "begin it with `/`"),
        ("prefix: /a//b", "no call could have"),
        ("prefix: /a/../b", "no call could have"),
        ("prefix: ''", "`prefix`"),
        ("prefix: /app, path: /app", "`path` or `prefix`"),
        ("methods: [GET]", "no `path:"),
    ],
)
def test_what_is_no_prefix_is_told_with_what_would_be_right(match: str, said: str) -> None:
    found_problems = problems(f"- {{id: a, match: {{{match}}}, auth: public, upstream: api}}")
    assert said in "\n".join(found_problems)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("match: {path: /a}, redirect_slash: true, upstream: api", "needs a `prefix`"),
        ("match: {path: /a}, redirect_slash: false, upstream: api", "needs a `prefix`"),
        (
            "match: {prefix: /, except_reserved: true}, redirect_slash: true, upstream: api",
            "no other name",
        ),
        ("match: {prefix: /a}, redirect: {to: /a}", "lead back for ever"),
        ("match: {prefix: /a}, redirect: {to: /a/b}", "lead back for ever"),
        ("match: {prefix: /, except_reserved: true}, redirect: {to: /b}", "lead back for ever"),
        ("match: {prefix: /a}, upstream: api, rewrite: {strip_prefix: /b}", "could be stripped"),
        (
            "match: {prefix: /, except_reserved: true}, upstream: api, rewrite: {strip_prefix: /b}",
            "could be stripped",
        ),
    ],
)
def test_what_does_not_go_with_a_prefix_is_told(more: str, said: str) -> None:
    assert said in "\n".join(problems(f"- {{id: a, {more}, auth: public}}"))


@pytest.mark.parametrize(
    ("path", "sent"),
    [("/app", "/"), ("/app/", "/"), ("/app/a%20b/", "/a%20b/"), ("/app/x?y=1", "/x?y=1")],
)
def test_a_prefix_can_be_stripped(path: str, sent: str) -> None:
    one = world("id: a, match: {prefix: /app}, rewrite: {strip_prefix: /app}")
    assert decide(one, f"GET {path}").target == sent


def test_a_rewrite_cannot_reach_what_a_prefix_protects() -> None:
    one = snapshot(
        "- {id: a, match: {prefix: /admin}, policy: signed-in, upstream: api}\n"
        "- {id: b, match: {prefix: /open}, auth: public, upstream: api, "
        "rewrite: {strip_prefix: /open}}"
    )
    for path in ("/open/admin", "/open/admin/", "/open/admin/x"):
        assert decide(one, f"GET {path}").reason == Reason.AMBIGUOUS_PATH
    assert decide(one, "GET /open/other").allowed


SLASH = "- {id: a, match: {prefix: /app}, redirect_slash: true, policy: signed-in, upstream: api}"


def test_the_bare_name_is_judged_before_it_is_led_to_the_slash() -> None:
    one = snapshot(SLASH)
    assert decide(one, "GET /app").reason == Reason.NO_CREDENTIAL
    request = SimulatedRequest("GET", "/app?next=/x", who("ann"), clock=FixedClock(NOW))
    simulated = simulate(request, one)
    assert simulated.call is not None
    told = explain(simulated.decision, simulated.call, one, lambda: NOW)
    assert told.sentence.endswith("; answered with 308 to /app/?next=/x")


def test_only_the_bare_name_is_led_to_the_slash() -> None:
    (route_,) = snapshot(SLASH).routes
    for path in ("/app/", "/app/x", "/app/x/"):
        simulated = simulate(SimulatedRequest("GET", path), snapshot(SLASH))
        assert simulated.call is not None
        assert route_.slash_target(simulated.call) is None


ANY_NAME = snapshot(
    "- {id: a, match: {prefix: '/{name}', except_reserved: true}, redirect_slash: true, "
    "policy: signed-in, upstream: api}"
)


@given(st.text(max_size=12), st.text(alphabet='a/=&\\"<>%é:@', max_size=12))
def test_the_slash_is_on_the_same_origin_whatever_is_asked(name: str, query: str) -> None:
    (route_,) = ANY_NAME.routes
    simulated = simulate(SimulatedRequest("GET", f"/{name}?{query}", who("ann")), ANY_NAME)
    if simulated.call is None or simulated.decision.route is None:
        return
    target = route_.slash_target(simulated.call)
    if target is not None:
        assert target.startswith("/")
        assert target[1] not in "/\\"
        assert target.isascii()
        assert target.isprintable()
        assert " " not in target


SEGMENTS = st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=3).map(tuple)


@given(
    st.sets(SEGMENTS, max_size=6), st.sets(SEGMENTS, max_size=6), st.booleans(),
    st.lists(st.sampled_from(["a", "b", "c"]), max_size=4), st.booleans(),
)  # fmt: skip
def test_an_exact_path_wins_then_the_longest_prefix(
    exact: set[tuple[str, ...]],
    prefixes: set[tuple[str, ...]],
    everything: bool,
    asked: list[str],
    slash: bool,
) -> None:
    table = RouteTable(route("/" + "/".join(one)) for one in exact)
    names = [*prefixes, *([()] if everything else [])]
    for one in names:
        assert table.insert(route("/" + "/".join(one), prefix=True)) is None
    segments = (*asked, "") if slash or not asked else tuple(asked)
    expected: str | None = None
    if segments in exact:
        expected = "/" + "/".join(segments)
    else:
        fitting = [
            one for one in names if segments[: len(one)] == one and len(segments) >= len(one)
        ]
        if fitting:
            best = max(fitting, key=len)
            expected = "/" + "/".join(best) + ("/**" if best else "**")
    match = table.match("h", "GET", segments)
    assert (match.route.pattern if isinstance(match, Match) else None) == expected
