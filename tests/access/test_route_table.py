"""What a table of routes knows besides the route of a call."""

from __future__ import annotations

import pytest

from gateway.access.routing import route_table, route_trie
from gateway.access.routing.own_paths import OwnPaths
from gateway.access.routing.patterns import read_prefix
from gateway.access.routing.route_table import Match, NoMatch, RouteTable
from gateway.access.routing.routes import Route
from gateway.model import Reason
from tests.access.test_prefixes import route as of_pattern
from tests.access.test_routes import found, route
from tests.access.worlds import snapshot


def test_every_route_of_the_chosen_pattern_is_a_candidate() -> None:
    get, post, rest = route("/a", "GET", "HEAD"), route("/a", "POST"), route("/{x:path}")
    table = RouteTable([get, post, rest])
    assert table.candidates("h", ("a",)) == [get, post]
    assert table.candidates("h", ("b",)) == [rest]
    assert RouteTable([get]).candidates("h", ("b",)) == []


def test_hosts_that_a_route_names_are_known() -> None:
    table = RouteTable([route("/a", host="one.example.com"), route("/b", host="*.example.net")])
    names = (
        "one.example.com",
        "two.example.com",
        "x.example.net",
        "example.net",
        "y.x.example.net",
    )
    assert [table.names_host(name) for name in names] == [True, False, True, False, False]
    assert table.named_hosts() == {"one.example.com"}


def test_whether_a_route_takes_names_of_files_is_known() -> None:
    plain = snapshot("- {id: a, match: {prefix: /a}, auth: public, upstream: api}").routes
    files = snapshot(
        """
        - {id: a, match: {prefix: /a}, auth: public, upstream: api, paths: files}
        - {id: b, match: {prefix: /b}, auth: public, upstream: api}
        """
    ).routes
    assert (plain.takes_files, files.takes_files) == (False, True)
    assert not plain.admits_files("h", ("a", "x"))
    assert files.admits_files("h", ("a", "x"))
    assert not files.admits_files("h", ("b", "x"))
    assert not files.admits_files("h", ("auth", "x"))


def test_a_document_is_a_file_of_a_route_where_the_gateway_does_not_answer_it() -> None:
    files = snapshot(
        "- {id: a, match: {prefix: /, except_reserved: true}, auth: public, upstream: api, paths: files}"
    )
    table = RouteTable(files.routes, OwnPaths(hosts=frozenset(("gateway.example.com",))))
    assert table.admits_files("app.example.com", (".well-known", "jwks.json"))
    assert not table.admits_files("gateway.example.com", (".well-known", "jwks.json"))


def test_a_file_is_one_of_the_host_that_was_called() -> None:
    table = snapshot(
        """
        - {id: a, match: {host: a.example.com, prefix: /a}, auth: public, upstream: api, paths: files}
        - {id: b, match: {prefix: /a}, auth: public, upstream: api}
        """
    ).routes
    assert table.admits_files("a.example.com", ("a", "x"))
    assert not table.admits_files("b.example.com", ("a", "x"))
    assert [one.id for one in table.candidates("a.example.com", ("a",))] == ["a"]


def test_a_parameter_is_read_at_a_named_host_and_at_a_wildcard() -> None:
    table = RouteTable(
        [route("/{x}/y", host="one.example.com"), route("/{x}/y", host="*.example.net")]
    )
    for host in ("one.example.com", "x.example.net"):
        match = table.match(host, "GET", ("7", "y"))
        assert isinstance(match, Match)
        assert match.params == {"x": "7"}


def test_what_was_matched_lately_is_remembered_within_bounds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(route_table, "_RECENT_MAX", 2)
    table = RouteTable([route("/{x}")])

    def ask(segment: str) -> Match | NoMatch:
        """What comes once is not remembered."""
        table.match("h", "GET", (segment,))
        return table.match("h", "GET", (segment,))

    first = ask("a")
    assert ask("a") is first
    assert ask("b") is ask("b")
    assert ask("a") is first
    # All are forgotten for a third, and for a route that comes.
    assert ask("c") is ask("c")
    again = ask("a")
    assert again is not first
    table.insert(route("/other"))
    assert ask("a") is not again
    # With the host and the method it is 256 signs long.
    assert ask("x" * 252) is ask("x" * 252)
    assert ask("x" * 253) is not ask("x" * 253)
    assert table.match("h", "GET", ("once",)) is not table.match("h", "GET", ("once",))


def test_a_rewrite_reaches_what_others_protect_by_the_method_alone() -> None:
    world = snapshot(
        """
        - {id: rewrites, match: {prefix: /open}, auth: public, upstream: api,
           rewrite: {strip_prefix: /open}}
        - {id: reads, match: {path: /admin, methods: [GET]}, policy: signed-in, upstream: api}
        - {id: writes, match: {path: /admin, methods: [POST]}, auth: public, upstream: api}
        - {id: answers, match: {path: /answer}, auth: public, direct_response: {status: 204}}
        """
    )
    table = world.routes
    rewrites, reads, answers = (table.get(id) for id in ("rewrites", "reads", "answers"))
    assert rewrites is not None
    assert reads is not None
    assert answers is not None
    assert table.bypasses_route(rewrites, "GET", ("admin",))
    assert not table.bypasses_route(rewrites, "POST", ("admin",))
    # A method that none of them names may reach the protected one all the same.
    assert table.bypasses_route(rewrites, "PUT", ("admin",))
    assert not table.bypasses_route(reads, "GET", ("admin",))
    assert not table.bypasses_route(rewrites, "GET", ("other",))
    assert not table.bypasses_route(answers, "GET", ("admin",))


def test_a_route_of_a_backend_that_no_other_asks_bypasses_nothing() -> None:
    admin, moved = snapshot(
        """
        - {id: admin, match: {path: /admin}, policy: signed-in, upstream: api}
        - {id: moved, match: {prefix: /moved}, auth: public, upstream: other,
           rewrite: {strip_prefix: /moved}}
        """
    ).routes
    assert not RouteTable([admin]).bypasses_route(moved, "GET", ("admin",))


def test_a_path_that_is_rewritten_is_not_protected_as_it_came() -> None:
    table = snapshot(
        """
        - {id: rewrites, match: {prefix: /open}, auth: public, upstream: api,
           rewrite: {strip_prefix: /open}}
        - {id: moved, match: {path: /admin}, policy: signed-in, upstream: api,
           rewrite: {path: /elsewhere}}
        """
    ).routes
    rewrites = table.get("rewrites")
    assert rewrites is not None
    assert not table.bypasses_route(rewrites, "GET", ("admin",))


def test_a_protected_route_of_every_method_is_bypassed_by_each() -> None:
    table = snapshot(
        """
        - {id: rewrites, match: {prefix: /open}, auth: public, upstream: api,
           rewrite: {strip_prefix: /open}}
        - {id: admin, match: {path: /admin}, policy: signed-in, upstream: api}
        - {id: same, match: {prefix: /same}, policy: signed-in, upstream: api,
           rewrite: {strip_prefix: /same}}
        - {id: acts, match: {prefix: /acts}, policy: signed-in, action: "x:y", upstream: api,
           rewrite: {strip_prefix: /acts}}
        """
    ).routes

    def bypasses(id: str) -> bool:
        found = table.get(id)
        assert found is not None
        return table.bypasses_route(found, "GET", ("admin",))

    assert [bypasses(id) for id in ("rewrites", "same", "acts")] == [True, False, True]


def test_a_refused_route_is_found_at_none_of_its_hosts() -> None:
    table = RouteTable([route("/a", host="one"), route("/{x}", host="two")])
    both = Route("both", ("one", "two"), "/a", route("/a").segments)
    assert table.insert(both) is not None
    assert found(table, "/a", host="one") == "/a"
    assert found(table, "/b", host="one") == NoMatch(Reason.ROUTE_UNKNOWN)
    assert found(table, "/b", host="two") == "/{x}"
    assert found(table, "/a", host="two") == NoMatch(Reason.ROUTE_UNKNOWN)
    assert len(table) == 2


def test_a_prefix_s_rest_has_no_name() -> None:
    match = RouteTable([of_pattern("/user/{name}", prefix=True)]).match(
        "h", "GET", ("user", "a", "b")
    )
    assert isinstance(match, Match)
    assert match.params == {"name": "a"}


def test_what_is_no_prefix_is_told_with_what_would_be() -> None:
    assert read_prefix("/appX/") == (
        "leave the last `/` out: `/appX` takes `/appX/` and all below it as well"
    )


def test_what_nodes_and_leaves_without_any_share_stays_empty() -> None:
    routes = [
        route("/A/index.html/{n:int}"), route("/A/7", "GET"), route("/a/{x}/b"),
        route("/A/7", "POST", host="h.example"), route("/{rest:path}"),
    ]  # fmt: skip
    table = RouteTable(routes)
    assert isinstance(table.match("h", "GET", ("A", "7")), Match)
    shared = (route_trie._NO_ROUTES, route_trie._NO_METHODS, route_trie._NO_NODES)
    assert not any((*shared, route_trie._NO_ALIKE))
