"""A key that is limited to routes opens no page of another, in whatever spelling or rewritten."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gateway.access.authorizer import Authorizer
from gateway.access.routing.route_table import RouteTable
from gateway.access.routing.spellings import Spellings
from gateway.access.simulation import (
    FixedAuthenticator,
    NoLimits,
    SimulatedRequest,
    simulated_call,
)
from gateway.model import Call, Principal, Reason
from tests.access.worlds import decide, snapshot, who

ROUTES = """
    - {id: billing, match: {prefix: /billing}, policy: signed-in, upstream: api}
    - {id: docs, match: {path: "/docs/{page}"}, policy: signed-in, upstream: api}
    - {id: open, match: {prefix: /open}, auth: public, upstream: api}
    - {id: elsewhere, match: {prefix: /elsewhere}, policy: signed-in, upstream: other}
    - {id: rest, match: {prefix: /, except_reserved: true}, policy: signed-in, upstream: api}
    - {id: legacy, match: {prefix: /legacy}, policy: signed-in, upstream: api,
       rewrite: {strip_prefix: /legacy}}
    - {id: shelf, match: {path: "/shelf/{name}"}, policy: signed-in, upstream: api,
       allow_encoded_slash: true}
    - {id: any, match: {path: "/{name}", except_reserved: true}, policy: signed-in, upstream: api,
       allow_encoded_slash: true}
    - {id: notes, match: {path: "/{owner}/notes", except_reserved: true}, policy: signed-in, upstream: api}
    - {id: files, match: {prefix: /files}, policy: signed-in, upstream: api, paths: files}
    - {id: file, match: {path: /files/own}, policy: signed-in, upstream: api, paths: files}
"""
WORLD = snapshot(ROUTES)


def key(*routes: str) -> Principal:
    return replace(who("ann"), scopes=("*",), routes=frozenset(routes))


@pytest.mark.parametrize(
    ("routes", "path", "reason"),
    [
        (("rest",), "/other/pages", Reason.SIGNED_IN),
        (("rest",), "/billing/invoices", Reason.NO_RULE),
        (("rest",), "/Billing/invoices", Reason.AMBIGUOUS_PATH),
        (("rest",), "/index.php/billing/invoices", Reason.AMBIGUOUS_PATH),
        (("rest", "billing"), "/Billing/invoices", Reason.SIGNED_IN),
        (("rest",), "/Open/page", Reason.SIGNED_IN),
        (("rest",), "/Elsewhere/page", Reason.SIGNED_IN),
        (("rest",), "/ann/notes/", Reason.AMBIGUOUS_PATH),
        (("rest", "notes"), "/ann/notes/", Reason.SIGNED_IN),
        # `/docs` is that of a route for any name.
        (("docs",), "/docs/index.html", Reason.SIGNED_IN),
        (("docs",), "/docs/index.php", Reason.SIGNED_IN),
        (("docs",), "/docs/7.html", Reason.SIGNED_IN),
        (("legacy",), "/legacy/docs", Reason.SIGNED_IN),
        (("legacy",), "/legacy/", Reason.SIGNED_IN),
        (("legacy",), "/legacy/billing/invoices", Reason.AMBIGUOUS_PATH),
        (("legacy",), "/legacy/Billing/invoices", Reason.AMBIGUOUS_PATH),
        (("legacy", "billing"), "/legacy/billing/invoices", Reason.SIGNED_IN),
        (("shelf",), "/shelf/a%2Fb", Reason.NO_RULE),
        (("shelf", "rest"), "/shelf/a%2Fb", Reason.SIGNED_IN),
        (("any", "rest"), "/billing%2Finvoices", Reason.NO_RULE),
        (("any", "rest"), "/Billing%2Finvoices", Reason.AMBIGUOUS_PATH),
        (("any", "rest", "billing"), "/Billing%2Finvoices", Reason.SIGNED_IN),
        (("files",), "/files/a;b", Reason.SIGNED_IN),
        (("files",), "/files/OWN", Reason.AMBIGUOUS_PATH),
        (("files",), "/files/OWN;b", Reason.AMBIGUOUS_PATH),
    ],
)
def test_a_key_for_some_routes_is_good_at_no_other_in_any_spelling(
    routes: tuple[str, ...], path: str, reason: Reason
) -> None:
    decision = decide(WORLD, f"GET {path}", key(*routes))
    assert (decision.allowed, decision.reason) == (reason is Reason.SIGNED_IN, reason)
    plain = decide(WORLD, f"GET {path}", who("ann"))
    assert plain.allowed


def test_a_call_that_goes_on_is_held_to_the_routes_of_its_key() -> None:
    call = simulated_call(SimulatedRequest("GET", "/Billing/invoices", key("rest")))
    assert isinstance(call, Call)
    for routes, passes in ((("rest",), False), (("rest", "billing"), True)):
        caller = key(*routes)
        authorizer = Authorizer(FixedAuthenticator(caller), NoLimits())
        assert authorizer.reevaluate(call, WORLD, caller).allowed is passes


def test_what_a_key_opens_is_remembered_of_each_set_of_routes() -> None:
    """A table that was asked of one key answers no other by it."""
    table = WORLD.routes
    rest = table.get("rest")
    assert rest is not None
    for _ in range(3):
        for good_at, elsewhere in (("rest",), True), (("rest", "billing"), False):
            told = table.is_read_elsewhere(
                rest, "", "GET", ("Billing", "invoices"), frozenset(good_at)
            )
            assert told is elsewhere
        assert not table.is_read_elsewhere(rest, "", "GET", ("Billing", "invoices"))


def test_what_a_key_opens_is_compared_once_and_forgotten_with_a_new_route() -> None:
    routes = RouteTable(one for one in WORLD.routes if one.id != "billing")
    rest, billing = WORLD.routes.get("rest"), WORLD.routes.get("billing")
    assert rest is not None
    assert billing is not None
    asked = "", "GET", ("Billing", "invoices"), frozenset(("rest",))
    assert [routes.is_read_elsewhere(rest, *asked) for _ in range(3)] == [False] * 3
    assert routes.insert(billing) is None
    assert [routes.is_read_elsewhere(rest, *asked) for _ in range(3)] == [True] * 3


def test_no_more_is_remembered_of_keys_than_of_paths() -> None:
    table = Counted(WORLD.routes)
    rest = WORLD.routes.get("rest")
    assert rest is not None
    for text, compared in ("a.b", 2), ("a." + "b" * 300, 5):
        table.compared = 0
        for _ in range(5):
            table.is_read_elsewhere(rest, "", "GET", (text,), frozenset(("rest",)))
        assert table.compared == compared


class Counted(RouteTable):
    """Counts how often a path was compared with those of other routes."""

    compared = 0

    def spellings(self, segments: tuple[str, ...], **more: Any) -> Spellings:
        self.compared += len(segments) == 1 and not more
        return super().spellings(segments, **more)
