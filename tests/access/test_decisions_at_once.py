"""What is in memory is not waited for, and decides as what is asked for does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from gateway.access.attributes import tenant_of
from gateway.access.authorizer import Authorizer, Decision
from gateway.access.conditions.context import NO_RESOURCE, RequestedResource
from gateway.access.definitions import Limit
from gateway.access.routing.route_table import RouteTable
from gateway.access.simulation import FixedClock, completed, run_sync
from gateway.access.snapshot import Snapshot
from gateway.limit_state import LimitState
from gateway.model import Call, CredentialKind, Principal, Reason
from tests.access.asked import Callers, KnownCallers, KnownLimits, Limits
from tests.access.decision_cases import CASES
from tests.access.decision_world import WORLD, call_of, told
from tests.access.worlds import NOW, anew, snapshot, who


@pytest.mark.parametrize("knows_limits", [True, False])
@pytest.mark.parametrize("knows_callers", [True, False])
@pytest.mark.parametrize(("request_", "caller", "waits_s", "decision", "asked"), CASES)
def test_whatever_is_in_memory_the_decision_is_the_same(
    request_: str,
    caller: Principal | Reason,
    waits_s: list[float],
    decision: dict[str, Any],
    asked: list[tuple[Any, ...]],
    knows_callers: bool,
    knows_limits: bool,
) -> None:
    callers = (KnownCallers if knows_callers else Callers)(caller)
    limits = (KnownLimits if knows_limits else Limits)(*waits_s)
    gate = Authorizer(callers, limits, clock=FixedClock(NOW))
    begun = gate.begin(call_of(request_, caller), anew(WORLD))
    if knows_callers and knows_limits:
        assert isinstance(begun, Decision)
    found = begun if isinstance(begun, Decision) else completed(begun)
    assert (told(found), limits.asked) == (decision, asked)


def test_who_is_in_memory_is_looked_for_by_what_the_route_takes() -> None:
    route = next(route for route in WORLD.routes if route.id == "cookies")
    route = replace(route, issuers=frozenset(("own", "company")))
    callers = KnownCallers(who("u1"))
    gate = Authorizer(callers, Limits(), clock=FixedClock(NOW))
    table = RouteTable([route])
    decision = gate.begin(call_of("GET /cookies", who("u1")), Snapshot("v", table))
    assert isinstance(decision, Decision)
    assert callers.asked == [("/cookies", route.accept, route.issuers)]


@pytest.mark.parametrize("kind", [CredentialKind.COOKIE, CredentialKind.BASIC])
def test_what_browsers_add_is_never_looked_for_before_its_origin(kind: CredentialKind) -> None:
    callers = KnownCallers(who("u1"))
    gate = Authorizer(callers, KnownLimits(), clock=FixedClock(NOW))
    headers = [("Sec-Fetch-Site", "cross-site"), ("Origin", "https://evil.example")]
    call = call_of("POST /cookies", who("u1"), headers=headers, kind=kind)
    decision = run_sync(gate, call, WORLD)
    assert (decision.allowed, decision.refusal) == (False, Reason.CROSS_ORIGIN)
    assert callers.asked == []


MOVED = snapshot(
    """
    - {id: cookie, match: {prefix: /cookie}, policy: signed-in, accept: [cookie], upstream: api,
       rewrite: {strip_prefix: /cookie}}
    - {id: maybe, match: {prefix: /maybe}, auth: optional, upstream: api,
       rewrite: {strip_prefix: /maybe}}
    - {id: counted, match: {prefix: /counted}, policy: signed-in, limits: [per-user],
       upstream: api, rewrite: {strip_prefix: /counted}}
    - {id: signed, match: {prefix: /signed}, policy: signed-in, upstream: api,
       rewrite: {strip_prefix: /signed}}
    - {id: shut, match: {path: /shut}, policy: nobody, upstream: api}
    """,
    "policy: nobody\nrules: [{id: none, deny: ['*']}]",
)


@pytest.mark.parametrize("limits", [Limits, KnownLimits])
@pytest.mark.parametrize("callers", [Callers, KnownCallers])
@pytest.mark.parametrize("route", ["cookie", "maybe", "counted", "signed"])
def test_whatever_was_waited_for_no_rewrite_leads_to_what_another_route_protects(
    route: str, callers: type[Callers], limits: type[Limits]
) -> None:
    who_calls: Principal | Reason = Reason.NO_CREDENTIAL if route == "maybe" else who("u1")
    kind = CredentialKind.COOKIE if route == "cookie" else CredentialKind.BEARER
    gate = Authorizer(callers(who_calls), limits(), clock=FixedClock(NOW))
    for path, allowed in (("open", True), ("shut", False)):
        call = call_of(
            f"POST /{route}/{path}",
            who_calls,
            headers=[("Sec-Fetch-Site", "same-origin")],
            kind=kind,
        )
        decision = run_sync(gate, call, MOVED)
        assert decision.allowed is allowed
        assert allowed or decision.reason == Reason.AMBIGUOUS_PATH


TENANTS = snapshot(
    """
    version: 1
    tenants: {roles: [owner, member]}
    limits: {per-tenant: {key: tenant, rate: 2/1h}, per-user: {key: user, rate: 2/1h}}
    upstreams: {api: {targets: [http://127.0.0.1:9001]}}
    routes:
      - {id: t, match: {path: "/t/{org}"}, tenant: "{org}", policy: p, limits: [per-user],
         upstream: api}
      - {id: o, match: {path: "/o/{org}"}, tenant: "{org}", auth: optional, policy: open,
         limits: [per-user], upstream: api}
    """,
    """
    policy: p
    rules: [{id: own, allow: ["*"], when: user.tenant != null && user.tenant == 'north',
             limits: [per-tenant]}]
    """,
    """
    policy: open
    rules: [{id: all, allow: ["*"], when: "true", limits: [per-tenant]}]
    """,
)


class Tenants(Limits):
    """Remembers for which tenant the caller acts that is asked about."""

    async def take(
        self,
        limits: Sequence[Limit],
        call: Call,
        principal: Principal | None,
        requested: RequestedResource = NO_RESOURCE,
    ) -> LimitState:
        name = "+".join(limit.name for limit in limits)
        self.asked.append((name, principal and tenant_of(principal)))
        return LimitState(0.0, name, (), ())


class KnownTenants(Tenants, KnownLimits):
    pass


@pytest.mark.parametrize("limits", [Tenants, KnownTenants])
@pytest.mark.parametrize(
    ("path", "tenant", "allowed"),
    [("/t/north", "north", True), ("/t/south", "south", False), ("/t/west", None, False)],
)
def test_a_caller_is_counted_and_judged_as_of_the_tenant_that_the_path_names(
    path: str, tenant: str | None, allowed: bool, limits: type[Tenants]
) -> None:
    claims = {"tenants": {"north": "owner", "south": "member"}, "tenant": "south"}
    counts = limits()
    caller = who("u1", claims=claims)
    gate = Authorizer(KnownCallers(caller), counts, clock=FixedClock(NOW))
    decision = run_sync(gate, call_of(f"GET {path}", caller), TENANTS)
    assert decision.allowed is allowed
    assert decision.principal is not None
    assert tenant_of(decision.principal) == tenant
    last = [("per-tenant", tenant)] if allowed else []
    assert counts.asked == [("per-user", tenant), *last]


@pytest.mark.parametrize("limits", [Tenants, KnownTenants])
def test_a_stranger_acts_for_no_tenant(limits: type[Tenants]) -> None:
    counts = limits()
    gate = Authorizer(KnownCallers(Reason.NO_CREDENTIAL), counts, clock=FixedClock(NOW))
    assert run_sync(gate, call_of("GET /o/north"), TENANTS).allowed
    assert counts.asked == [("per-user", None), ("per-tenant", None)]


@pytest.mark.parametrize(("path", "allowed"), [("/t/north", True), ("/t/south", False)])
def test_a_call_that_lasts_is_judged_anew_as_of_the_tenant_that_its_path_names(
    path: str, allowed: bool
) -> None:
    claims = {"tenants": {"north": "owner", "south": "member"}, "tenant": "south"}
    caller = who("u1", claims=claims)
    gate = Authorizer(KnownCallers(caller), Limits(), clock=FixedClock(NOW))
    assert gate.reevaluate(call_of(f"GET {path}", caller), TENANTS, caller).allowed is allowed


def test_a_denied_reading_tells_where_the_caller_stands() -> None:
    world = snapshot(
        """
        - {id: files, match: {prefix: /files}, paths: files, policy: f, limits: [per-user],
           upstream: api}
        """,
        """
        policy: f
        rules:
          - {id: most, allow: ["*"]}
          - {id: own, deny: ["*"], when: request.path == '/files/own'}
        """,
    )
    gate = Authorizer(KnownCallers(who("u1")), KnownLimits(), clock=FixedClock(NOW))
    decision = run_sync(gate, call_of("GET /files/own;a", who("u1")), world)
    assert (decision.allowed, decision.read_as) == (False, "/files/own")
    assert decision.limit is not None
    assert decision.limit.policy == "per-user"
