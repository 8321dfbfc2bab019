"""The paths that the gateway answers itself: where they are, and what routes may have."""

from __future__ import annotations

from textwrap import dedent, indent

import pytest

from gateway.access.explanation import explain
from gateway.access.routing.own_paths import DOCUMENTS, OwnPaths, url_host
from gateway.access.simulation import SimulatedRequest, simulate
from gateway.access.snapshot import Snapshot
from gateway.config.compile import Sources, compile_snapshot
from gateway.model import Reason
from tests.access.worlds import HEAD, decide

ELSEWHERE = OwnPaths("/api/_auth", frozenset(("gateway.example.com",)))
JWKS = "/.well-known/jwks.json"


def compiled(match: str, own_paths: OwnPaths = ELSEWHERE) -> Snapshot | list[str]:
    routes = dedent(f"- {{id: a, match: {match}, auth: public, upstream: api}}")
    found = compile_snapshot(
        Sources(("routes.yaml", HEAD + indent(routes, "  "))), own_paths=own_paths
    )
    return found if isinstance(found, Snapshot) else [str(problem) for problem in found]


@pytest.mark.parametrize(
    "path", ["/api/_auth", "/api/_auth/", "/api/_auth/login", "/api/_auth/a/b"]
)
def test_endpoints_are_below_the_prefix_on_every_host(path: str) -> None:
    segments = tuple(path[1:].split("/"))
    assert ELSEWHERE.reserve("gateway.example.com", segments)
    assert ELSEWHERE.reserve("app.example.com", segments)


def test_a_prefix_of_several_segments_is_split_at_its_slashes() -> None:
    own_paths = OwnPaths("/api/_auth")
    assert own_paths.segments == ("api", "_auth")
    assert own_paths.first == {"api", ".well-known"}
    assert own_paths.reserve("any", ("api", "_auth", "login"))
    assert own_paths.endpoint() == "/api/_auth"
    assert own_paths.endpoint("hand-over", "start") == "/api/_auth/hand-over/start"


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://App.example.com:8443/a", "app.example.com"),
        ("https://app.example.com./", "app.example.com"),
        ("http://[::1]:8080", "[::1]"),
        ("/a", ""),
        ("", ""),
        ("http://[::1", ""),
    ],
)
def test_the_host_of_a_url_is_told_as_that_of_a_call_is(url: str, host: str) -> None:
    assert url_host(url) == host


@pytest.mark.parametrize("path", ["/auth/login", "/api", "/api/_authx", "/api/x/_auth", "/"])
def test_other_paths_are_not_reserved(path: str) -> None:
    assert not ELSEWHERE.reserve("gateway.example.com", tuple(path[1:].split("/")))


@pytest.mark.parametrize("name", sorted(DOCUMENTS))
def test_documents_are_on_hosts_of_the_gateway_alone(name: str) -> None:
    assert ELSEWHERE.reserve("gateway.example.com", (".well-known", name))
    assert not ELSEWHERE.reserve("app.example.com", (".well-known", name))
    assert not ELSEWHERE.reserve("x.gateway.example.com", (".well-known", name))
    assert OwnPaths().reserve("app.example.com", (".well-known", name))


@pytest.mark.parametrize(
    "match",
    ["{path: /auth}", "{path: /api}", "{path: '/{x}'}", f"{{path: {JWKS}/x}}", "{path: '/auth/{x:path}'}", "{path: '/api/v1/{x:path}'}",
     f"{{host: app.example.com, path: {JWKS}}}",
     "{host: app.example.com, path: '/.well-known/{x:path}'}"],
)  # fmt: skip
def test_what_is_free_elsewhere_may_be_a_route(match: str) -> None:
    assert isinstance(compiled(match), Snapshot)


@pytest.mark.parametrize(
    ("match", "named"),
    [
        ("{path: /api/_auth}", "`/api/_auth`"),
        ("{path: '/api/_auth/{x:path}'}", "`/api/_auth/…`"),
        ("{path: '/api/{x:path}'}", "`/api/_auth/…`"),
        ("{path: /api/_auth/login}", "`/api/_auth/…`"),
        ("{path: '/api/{x}'}", "`/api/_auth`"),
        ("{path: '/{x}/{y}'}", "`/api/_auth`"),
        (f"{{path: {JWKS}}}", f"`{JWKS}`"),
        (f"{{host: gateway.example.com, path: {JWKS}}}", f"`{JWKS}`"),
        ("{path: '/.well-known/{x}'}", f"`{JWKS}`"),
    ],
)
def test_a_route_that_would_match_one_is_a_load_error(match: str, named: str) -> None:
    problems = compiled(match)
    assert isinstance(problems, list)
    assert f"would match {named}, which the gateway answers itself" in problems[0]


@pytest.mark.parametrize("path", ["/api/_auth/{x:path}", "/api/_auth", JWKS])
def test_a_route_of_such_paths_alone_cannot_be_excepted(path: str) -> None:
    problems = compiled(f"{{path: '{path}', except_reserved: true}}")
    assert isinstance(problems, list)
    assert problems[0].endswith("choose another path")


def test_an_excepted_route_takes_the_rest() -> None:
    world = compiled("{path: '/api/{x:path}', except_reserved: true}")
    assert isinstance(world, Snapshot)
    assert decide(world, "GET /api/v1").allowed
    assert decide(world, "GET /api/_auth/login").reason == Reason.ROUTE_UNKNOWN


def test_an_excepted_route_takes_the_documents_of_other_hosts() -> None:
    world = compiled("{path: '/.well-known/{x}', except_reserved: true}")
    assert isinstance(world, Snapshot)
    other = decide(world, f"GET {JWKS}", headers=[("Host", "app.example.com")])
    own = decide(world, f"GET {JWKS}", headers=[("Host", "gateway.example.com")])
    assert (other.allowed, own.reason) == (True, Reason.ROUTE_UNKNOWN)


def test_a_document_is_told_as_the_gateways_own_at_its_hosts_alone() -> None:
    world = compiled("{path: '/.well-known/{x}', except_reserved: true}")
    assert isinstance(world, Snapshot)
    for host, sentence in (
        ("app.example.com", "allowed: route_public at routes.yaml:11"),
        ("gateway.example.com", "no route: the gateway answers this path itself"),
    ):
        answer = simulate(SimulatedRequest("GET", f"http://{host}{JWKS}"), world)
        assert answer.call is not None
        assert explain(answer.decision, answer.call, world, lambda: 0.0).sentence == sentence


RESOURCES = """
  - {id: mcp, match: {host: tools.example.com, prefix: /mcp}, policy: signed-in, upstream: api,
     issuers: [idp], resource_server: {}}
"""
METADATA = "/.well-known/oauth-protected-resource"


def beside_a_resource(match: str, resources: str = RESOURCES) -> Snapshot | list[str]:
    issuers = 'issuers: {idp: {issuer: "https://idp.example", audience: tools}}\n'
    route = f"  - {{id: a, match: {match}, auth: public, upstream: api}}\n"
    text = HEAD.replace("upstreams:", f"{issuers}upstreams:", 1)
    found = compile_snapshot(
        Sources(("routes.yaml", text + resources + route)), own_paths=ELSEWHERE
    )
    return found if isinstance(found, Snapshot) else [str(problem) for problem in found]


@pytest.mark.parametrize(
    "match",
    ["{host: tools.example.com, path: '/.well-known/{x:path}'}",
     "{host: tools.example.com, prefix: /.well-known}",
     "{host: '*.example.com', path: '/.well-known/{x}/{y}'}",
     "{path: '/.well-known/{b}/mcp'}"],
)  # fmt: skip
def test_beside_a_resource_nothing_takes_its_metadata_by_accident(match: str) -> None:
    problems = beside_a_resource(match)
    assert isinstance(problems, list)
    assert len(problems) == 1
    assert f"would match `{METADATA}/…`, which the gateway answers itself" in problems[0]
    world = beside_a_resource(match[:-1] + ", except_reserved: true}")
    assert isinstance(world, Snapshot)
    for path in (METADATA, f"{METADATA}/", f"{METADATA}/mcp", f"{METADATA}/mcp/x", f"{METADATA}/a"):
        told = decide(world, f"GET {path}", headers=[("Host", "tools.example.com")])
        assert told.reason == Reason.ROUTE_UNKNOWN
    other = "GET /.well-known/other/mcp"
    assert decide(world, other, headers=[("Host", "tools.example.com")]).allowed


@pytest.mark.parametrize("path", [METADATA, f"{METADATA}/other"])
def test_the_metadata_of_a_resource_are_no_routes(path: str) -> None:
    match = f"{{host: tools.example.com, path: {path}, except_reserved: true}}"
    problems = beside_a_resource(match)
    assert isinstance(problems, list)
    assert problems[0].endswith("choose another path")


@pytest.mark.parametrize("host", ["other.example.com", "tools.example.com.example", "x.example"])
def test_a_host_without_a_resource_keeps_its_own_metadata(host: str) -> None:
    world = beside_a_resource(f"{{host: {host}, path: '/.well-known/{{x:path}}'}}")
    assert isinstance(world, Snapshot)
    for path in (METADATA, f"{METADATA}/mcp"):
        assert decide(world, f"GET {path}", headers=[("Host", host)]).allowed


def test_a_resource_of_every_host_is_on_hosts_of_the_gateway() -> None:
    resources = RESOURCES.replace("host: tools.example.com, ", "")
    world = beside_a_resource("{path: '/{x:path}', except_reserved: true}", resources)
    assert isinstance(world, Snapshot)
    for host, allowed in (("gateway.example.com", False), ("app.example.com", True)):
        told = decide(world, f"GET {METADATA}/mcp", headers=[("Host", host)])
        assert told.allowed is allowed


def test_a_shipped_text_names_the_endpoints_where_they_are() -> None:
    text = "POST /auth/login (`/auth`), blob/auth/x, /authors, authgate/authgate"
    moved = OwnPaths("/_auth").told_in(text)
    assert moved == "POST /_auth/login (`/_auth`), blob/auth/x, /authors, authgate/authgate"


def test_a_prefix_may_hold_the_endpoints_and_leaves_them_out() -> None:
    assert "`except_reserved: true`" in str(compiled("{prefix: /api}"))
    assert "choose another path" in str(compiled("{prefix: /api/_auth, except_reserved: true}"))
    world = compiled("{prefix: /api, except_reserved: true}")
    assert isinstance(world, Snapshot)
    assert decide(world, "GET /api/auth").allowed
    assert decide(world, "GET /api/_auth/me").reason == Reason.ROUTE_UNKNOWN
    assert isinstance(compiled("{prefix: /auth}"), Snapshot)
