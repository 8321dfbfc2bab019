"""A route that is a resource of OAuth takes the tokens that name it, with its scopes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.access.authorizer import Authorizer, Decision
from gateway.access.issuers import ResourceServer
from gateway.access.policies import signed_in_policy
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
