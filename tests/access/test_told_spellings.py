"""What the policy is told of a path is the same in each spelling a backend may take for it."""

from __future__ import annotations

import pytest

from gateway.model import Reason
from tests.access.spelling_worlds import MEMBERS, TENANTS
from tests.access.worlds import decide, snapshot, who


@pytest.mark.parametrize(
    ("path", "reason"),
    [("/api/bens/x", Reason.NO_RULE), ("/API/bens/x", Reason.AMBIGUOUS_PATH),
     ("/index.php/api/bens/x", Reason.AMBIGUOUS_PATH), ("/v1/api/bens/x", Reason.AMBIGUOUS_PATH),
     ("/v1/API/bens/x", Reason.AMBIGUOUS_PATH), ("/api%2Fbens/x", Reason.NO_RULE),
     ("/Api%2Fbens/x", Reason.NO_RULE), ("/API%2Fbens/x", Reason.AMBIGUOUS_PATH), ("/v2/bens/x", Reason.NO_RULE),
     ("/Orders/ben", Reason.AMBIGUOUS_PATH), ("/v1/orders/ben", Reason.AMBIGUOUS_PATH),
     ("/orders/ben.json/", Reason.AMBIGUOUS_PATH), ("/shelf/api%2Fbens%2Fx", Reason.AMBIGUOUS_PATH)],
)  # fmt: skip
def test_the_policy_is_told_of_the_tenant_and_the_resource_in_every_spelling(
    path: str, reason: Reason
) -> None:
    ann = who("ann", claims={"tenants": {"anns": "owner"}, "tenant": "anns"})
    world = snapshot(TENANTS, MEMBERS)
    for allowed in (
        "/api/anns/x",
        "/v2/anns/x",
        "/v1/x",
        "/x",
        "/orders/ann",
        "/api%2Fanns/x",
        "/Api%2Fanns/x",
    ):
        assert decide(world, f"GET {allowed}", ann).allowed
    decision = decide(world, f"GET {path}", ann)
    assert (decision.allowed, decision.reason) == (False, reason)


OWNED = """
    version: 1
    upstreams: {api: {targets: [http://127.0.0.1:9001]}}
    defaults: {policy: members, upstream: api}
    routes:
      - {id: order, match: {path: "/orders/{owner}"}, resource: {owner: "{owner}"}}
      - {id: named, match: {path: "/{kind}/{id}", except_reserved: true},
         resource: RESOURCE}
"""


@pytest.mark.parametrize(
    ("resource", "whose", "reason"),
    [
        ('{owner: "{id}"}', "ann", Reason.RULE_ALLOWED),
        ('{owner: "{id}"}', "ben", Reason.NO_RULE),
        ('{owner: "{id}", kind: "{kind}"}', "ann", Reason.RULE_ALLOWED),
        # The rule about owners would pass what it is told no owner of.
        ('{kind: "{kind}"}', "ann", Reason.AMBIGUOUS_PATH),
        ('{kind: "{kind}"}', "ben", Reason.AMBIGUOUS_PATH),
    ],
)
def test_a_route_that_tells_of_the_same_fields_takes_every_spelling(
    resource: str, whose: str, reason: Reason
) -> None:
    ann = who("ann", claims={"tenants": {"anns": "owner"}, "tenant": "anns"})
    world = snapshot(OWNED.replace("RESOURCE", resource), MEMBERS)
    assert decide(world, f"GET /Orders/{whose}", ann).reason is reason
