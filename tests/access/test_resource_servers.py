"""A route that is a resource of OAuth takes the tokens that name it, with its scopes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.access.authorizer import Authorizer, Decision
from gateway.access.issuers import ResourceServer
from gateway.access.policies import signed_in_policy
from gateway.access.resource_servers import (
    metadata_url,
    missing_scopes,
    resource_at,
    resource_paths,
)
from gateway.access.routing.csrf import OwnOrigins
from gateway.access.routing.route_table import RouteTable
from gateway.access.routing.routes import PatternSegment, Route, SegmentKind
from gateway.access.simulation import (
    FixedAuthenticator,
    NoLimits,
    SimulatedRequest,
    person,
    run_sync,
    simulated_call,
)
from gateway.access.snapshot import Snapshot
from gateway.model import Call, Principal, Reason

PUBLIC = "https://gate.example:8443"
RESOURCE = f"{PUBLIC}/mcp"
ANN = replace(person("ann", now=0), audience=(RESOURCE,), granted_scopes=("tools:call", "x"))


def route(id_: str, server: ResourceServer | None = None, *, hosts: tuple[str, ...] = ()) -> Route:
    return Route(
        id=id_,
        hosts=hosts,
        pattern=f"/{id_}",
        segments=(PatternSegment(SegmentKind.LITERAL, id_),),
        policy=signed_in_policy(),
        issuers=frozenset(("own", "company")),
        resource_server=server,
    )


SERVER = ResourceServer("/mcp", ("https://id.example",), scopes=("tools:call",))


def decide(caller: Principal, path: str, *routes: Route, host: str = "gate.example") -> Decision:
    table = RouteTable()
    for one in routes:
        table.insert(one)
    call = simulated_call(SimulatedRequest("GET", path, caller, [("Host", host)]))
    assert isinstance(call, Call)
    authorizer = Authorizer(FixedAuthenticator(caller), NoLimits(), origins=OwnOrigins(PUBLIC))
    return run_sync(authorizer, call, Snapshot("v", table))


def test_a_token_for_the_resource_with_its_scopes_is_let_through() -> None:
    assert decide(ANN, "/mcp", route("mcp", SERVER)).allowed


@pytest.mark.parametrize(
    "audience",
    [
        (),
        ("https://gate.example/mcp",),
        (RESOURCE + "/",),
        (RESOURCE.upper(),),
        ("https://gate.example:8443",),
    ],
)
def test_a_token_for_another_resource_is_not(audience: tuple[str, ...]) -> None:
    decision = decide(replace(ANN, audience=audience), "/mcp", route("mcp", SERVER))
    assert decision.refusal is Reason.TOKEN_CLAIMS_INVALID
    assert decision.principal is None


def test_a_token_without_the_scopes_is_told_which() -> None:
    decision = decide(replace(ANN, granted_scopes=("x",)), "/mcp", route("mcp", SERVER))
    assert decision.refusal is Reason.INSUFFICIENT_SCOPE
    assert decision.lacking_scopes == ("tools:call",)


def test_a_cookie_or_a_key_names_no_resource_and_has_no_scopes() -> None:
    caller = replace(ANN, audience=None, granted_scopes=())
    assert decide(caller, "/mcp", route("mcp", SERVER)).allowed


@pytest.mark.parametrize("allowed", [True, False])
def test_a_token_for_a_resource_alone_is_good_nowhere_else(allowed: bool) -> None:
    caller = replace(ANN, resource_only=not allowed)
    decision = decide(caller, "/other", route("other"), route("mcp", SERVER))
    assert decision.allowed is allowed
    if not allowed:
        assert decision.refusal is Reason.TOKEN_CLAIMS_INVALID


@pytest.mark.parametrize(
    ("host", "origin"),
    [("gate.example", PUBLIC), ("app.example", "https://app.example:8443")],
)
def test_each_host_that_a_route_names_is_a_resource_of_its_own(host: str, origin: str) -> None:
    taken = route("mcp", SERVER, hosts=("gate.example", "app.example"))
    caller = replace(ANN, audience=(f"{origin}/mcp",))
    assert decide(caller, "/mcp", taken, host=host).allowed
    other = "app.example" if host == "gate.example" else "gate.example"
    assert decide(caller, "/mcp", taken, host=other).refusal is Reason.TOKEN_CLAIMS_INVALID


def test_a_route_of_any_host_is_the_resource_of_the_public_url() -> None:
    assert decide(ANN, "/mcp", route("mcp", SERVER), host="elsewhere.example").allowed


def test_a_token_of_an_issuer_that_the_route_does_not_take_is_refused() -> None:
    caller = replace(ANN, issuer="stranger")
    decision = decide(caller, "/other", route("other"))
    assert decision.refusal is Reason.TOKEN_CLAIMS_INVALID


def test_a_call_that_goes_on_is_held_to_the_same() -> None:
    table = RouteTable()
    table.insert(route("mcp", SERVER))
    authorizer = Authorizer(FixedAuthenticator(ANN), NoLimits(), origins=OwnOrigins(PUBLIC))
    call = simulated_call(SimulatedRequest("GET", "/mcp", ANN))
    assert isinstance(call, Call)
    snapshot = Snapshot("v", table)
    assert authorizer.reevaluate(call, snapshot, ANN).allowed
    for caller, reason in (
        (replace(ANN, audience=("x",)), Reason.TOKEN_CLAIMS_INVALID),
        (replace(ANN, issuer="stranger"), Reason.TOKEN_CLAIMS_INVALID),
        (replace(ANN, granted_scopes=()), Reason.INSUFFICIENT_SCOPE),
    ):
        assert authorizer.reevaluate(call, snapshot, caller).refusal is reason


@pytest.mark.parametrize(
    ("hosts", "path", "url"),
    [
        ((), "/mcp", f"{PUBLIC}/.well-known/oauth-protected-resource/mcp"),
        ((), "/", f"{PUBLIC}/.well-known/oauth-protected-resource"),
        (
            ("h.example",),
            "/mcp",
            "https://h.example:8443/.well-known/oauth-protected-resource/mcp",
        ),
    ],
)
def test_the_metadata_stand_between_the_host_and_the_path(
    hosts: tuple[str, ...], path: str, url: str
) -> None:
    server = replace(SERVER, path=path)
    one = route("mcp", server, hosts=hosts)
    assert metadata_url(server, one, "h.example", OwnOrigins(PUBLIC)) == url


@pytest.mark.parametrize(
    ("host", "path", "public", "found"),
    [
        ("h.example", "/mcp", False, ("https://h.example:8443/mcp", "named")),
        ("x.wild.example", "/mcp", False, ("https://x.wild.example:8443/mcp", "wild")),
        ("gate.example", "/mcp", True, (f"{PUBLIC}/mcp", "any")),
        ("gate.example", "/mcp", False, None),
        ("gate.example", "/other", True, None),
        ("h.example", "/other", True, None),
        ("h.example", "/any", True, (f"{PUBLIC}/any", "any")),
    ],
)
def test_a_resource_is_found_at_its_host_its_wildcard_or_the_public_url(
    host: str, path: str, public: bool, found: tuple[str, str] | None
) -> None:
    def named(name: str) -> ResourceServer:
        return replace(SERVER, name=name)

    resources = {
        ("h.example", "/mcp"): named("named"),
        ("*.wild.example", "/mcp"): named("wild"),
        ("", "/mcp"): named("any"),
        ("", "/any"): named("any"),
    }
    at = resource_at(resources, host, path, OwnOrigins(PUBLIC), public=public)
    assert (at and (at[0], at[1].name)) == found


def test_the_paths_of_an_issuers_resources_are_known_by_its_name() -> None:
    one, other = route("one", SERVER), route("two", replace(SERVER, path="/two"))
    routes = (one, replace(other, issuers=frozenset(("company",))), route("three"))
    assert resource_paths(routes) == {"own": {"/mcp"}, "company": {"/mcp", "/two"}}


def test_whoever_brings_no_token_lacks_no_scope() -> None:
    one = route("mcp", SERVER)
    assert missing_scopes(None, one) == ()
    assert missing_scopes(replace(ANN, audience=None, granted_scopes=()), one) == ()
    assert missing_scopes(replace(ANN, granted_scopes=()), route("other")) == ()
    assert missing_scopes(replace(ANN, granted_scopes=()), one) == ("tools:call",)
