"""What a table of routes knows besides the route of a call."""

from __future__ import annotations

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


def test_a_refused_route_is_found_at_none_of_its_hosts() -> None:
    table = RouteTable([route("/a", host="one"), route("/{x}", host="two")])
    both = Route("both", ("one", "two"), "/a", route("/a").segments)
    assert table.insert(both) is not None
    assert found(table, "/a", host="one") == "/a"
    assert found(table, "/b", host="one") == NoMatch(Reason.ROUTE_UNKNOWN)
    assert found(table, "/b", host="two") == "/{x}"
    assert isinstance(table.match("two", "GET", ("a",)), NoMatch)
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
