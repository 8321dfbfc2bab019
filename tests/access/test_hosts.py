"""Hosts of routes: one name, several, or every name directly below one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.access.explanation import explain
from gateway.access.routing.csrf import OwnOrigins, check_origin
from gateway.access.routing.route_table import Match
from gateway.access.simulation import FixedClock, SimulatedRequest, simulate, simulated_call
from gateway.access.snapshot import Snapshot
from gateway.model import Credential, CredentialKind, Reason
from gateway.review.diff import compare
from tests.access.worlds import NOW, decide, problems, snapshot, who

ROUTE = "- {id: %s, match: {%s, path: %s}, auth: public, upstream: api}"


def world(*routes: tuple[str, str, str]) -> Snapshot:
    return snapshot("\n".join(ROUTE % one for one in routes))


def taken(one: Snapshot, host: str, path: str = "/a") -> str | None:
    match = one.routes.match(host, "GET", tuple(path[1:].split("/")))
    return match.route.id if isinstance(match, Match) else None


WILD = ("wild", "hosts: ['*.example.com']", "/a")
NAMED = ("named", "host: app.example.com", "/a")
ANY = ("any", "methods: [GET]", "/a")


@pytest.mark.parametrize(
    ("host", "route"),
    [
        ("app.example.com", "wild"),
        ("x--1.example.com", "wild"),
        ("example.com", None),
        ("a.b.example.com", None),
        ("appexample.com", None),
        ("app.example.org", None),
        ("app.example.com.evil.net", None),
        ("com", None),
        ("", None),
        ("[::1]", None),
        ("10.0.0.1", None),
    ],
)
def test_a_wildcard_is_one_label_and_never_the_bare_domain(host: str, route: str | None) -> None:
    assert taken(world(WILD), host) == route


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
def test_a_named_host_goes_over_a_wildcard_and_that_over_none(order: tuple[int, ...]) -> None:
    routes = (WILD, NAMED, ANY)
    one = world(*(routes[at] for at in order))
    assert taken(one, "app.example.com") == "named"
    assert taken(one, "other.example.com") == "wild"
    assert taken(one, "example.com") == "any"


def test_a_path_that_a_host_does_not_know_is_looked_for_at_the_next() -> None:
    one = world(("named", "host: app.example.com", "/n"), ("wild", "hosts: ['*.example.com']", "/w"),
                ("any", "methods: [GET]", "/z"))  # fmt: skip
    assert [taken(one, "app.example.com", path) for path in ("/n", "/w", "/z")] == [
        "named", "wild", "any",
    ]  # fmt: skip


def test_several_hosts_have_one_route() -> None:
    one = world(("both", "hosts: [a.example.com, B.example.com., a.example.com]", "/a"))
    assert [taken(one, f"{name}.example.com") for name in "abc"] == ["both", "both", None]


@pytest.mark.parametrize(
    "other", ["hosts: ['*.example.com']", "hosts: [b.example.net, '*.EXAMPLE.com.']"]
)
def test_two_routes_of_one_wildcard_conflict(other: str) -> None:
    (said,) = problems("\n".join(ROUTE % one for one in (WILD, ("second", other, "/a"))))
    assert "can match the same request as route `wild`" in said


def test_a_conflict_at_one_of_several_hosts_inserts_at_none() -> None:
    (said,) = problems(
        "\n".join(
            ROUTE % one
            for one in (NAMED, ("second", "hosts: [b.example.com, app.example.com]", "/a"),
                        ("third", "host: b.example.com", "/a"))
        )
    )  # fmt: skip
    assert "route `named`" in said


@pytest.mark.parametrize(
    ("match", "said"),
    [
        ("host: '*.com'", "`*.com` would take the hosts of strangers"),
        ("hosts: ['*.co.uk']", "public suffix `co.uk`. Write `*.NAME.co.uk`"),
        ("hosts: ['*.github.io']", "public suffix `github.io`"),
        ("hosts: ['*.GitHub.IO.']", "public suffix `github.io`"),
        ("hosts: ['*.foo.ck']", "public suffix `foo.ck`"),
        ("hosts: ['*.xn--p1ai']", "public suffix `xn--p1ai`"),
        ("hosts: ['*.internal']", "public suffix `internal`"),
        ("hosts: ['*.0.0.1']", "an address has no names below it"),
        ("hosts: ['*.[::1]']", "an address has no names below it"),
        ("hosts: ['*']", "leave `host` out"),
        ("hosts: ['*.']", "is no host"),
        ("hosts: ['*.*.example.com']", "`*.*.example.com` is no host: a `*` is the whole first"),
        ("hosts: ['a.*.example.com']", "the whole first label"),
        ("hosts: ['*a.example.com']", "the whole first label"),
        ("hosts: ['**.example.com']", "the whole first label"),
        ("hosts: ['*.example.com:8080']", "`*.example.com:8080` is no host: leave the port out"),
        ("hosts: []", "`hosts` is empty"),
        ("host: a.example.com, hosts: [b.example.com]", "`host` or `hosts`"),
        ("hosts: [[a]]", "`hosts`"),
    ],
)
def test_what_is_no_host_is_told_with_what_would_be_right(match: str, said: str) -> None:
    assert said in "\n".join(problems(ROUTE % ("a", match, "/a")))


@pytest.mark.parametrize(
    "host", ["*.localhost", "*.example.com", "*.www.ck", "*.example.co.uk", "*.me.github.io"]
)
def test_a_wildcard_below_a_name_of_ones_own_is_taken(host: str) -> None:
    one = world(("a", f"hosts: ['{host}']", "/a"))
    assert taken(one, host.replace("*", "x")) == "a"


# --- proof of intent ---


def allowed(one: Snapshot, origin: str, host: str = "app.example.com") -> str:
    """What a call with the cookie and this `Origin`, from a browser without fetch metadata, is."""
    found = simulated_call(
        SimulatedRequest("POST", f"https://{host}/a", headers=[("Origin", origin)])
    )
    assert not isinstance(found, Reason)
    return str(check_origin(found, one.auth_origins(OwnOrigins("https://gate.example.net"), host)))


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example.com",
        "https://example.com",
        "https://*.example.com",
        "https://app.example.com.evil.net",
        "https://app.example.com:8443",
        "http://app.example.com",
        "https://a.app.example.com",
        "null",
    ],
)
def test_a_sibling_of_the_wildcard_proves_nothing(origin: str) -> None:
    one = snapshot(
        "- {id: a, match: {hosts: ['*.example.com'], path: /a}, policy: signed-in, upstream: api}"
    )
    assert allowed(one, origin) == str(Reason.CROSS_ORIGIN)
    assert allowed(one, "https://app.example.com") != str(Reason.CROSS_ORIGIN)
    request = SimulatedRequest(
        "POST", "https://app.example.com/a", who("ann"), [("Origin", origin)],
        kind=CredentialKind.COOKIE,
    )  # fmt: skip
    assert simulate(request, one).decision.reason == Reason.CROSS_ORIGIN


GUARDED = snapshot(ROUTE.replace("auth: public", "policy: signed-in") % WILD)
LABEL = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True)


@given(LABEL, LABEL, st.sampled_from(["https", "http"]), st.sampled_from(["", ":443", ":8080"]))
def test_only_the_very_host_that_was_called_proves_intent(
    called: str, origin: str, scheme: str, port: str
) -> None:
    found = simulated_call(
        SimulatedRequest(
            "POST",
            f"https://{called}.example.com/a",
            who("ann"),
            [("Origin", f"{scheme}://{origin}.example.com{port}")],
            kind=CredentialKind.COOKIE,
        )
    )
    assert not isinstance(found, Reason)
    assert isinstance(found.credential, Credential)
    origins = GUARDED.auth_origins(OwnOrigins("https://gate.example.net"), found.host)
    proven = check_origin(found, origins) is not Reason.CROSS_ORIGIN
    assert proven == (called == origin and scheme == "https" and port == "")


# --- telling ---


def test_explain_tells_why_another_host_goes_first() -> None:
    one = world(WILD, NAMED, ANY)
    request = SimulatedRequest("GET", "http://app.example.com/a", clock=FixedClock(NOW))
    simulated = simulate(request, one)
    assert simulated.call is not None
    others = explain(simulated.decision, simulated.call, one, lambda: NOW).others
    assert {other.route: other.why for other in others} == {
        "wild": "matches too, but a route that names the whole host goes first",
        "any": "matches too, but a route with the call's host goes first",
    }
    elsewhere = simulate(SimulatedRequest("GET", "http://other.net/a"), world(WILD, NAMED))
    assert elsewhere.call is not None
    others = explain(elsewhere.decision, elsewhere.call, world(WILD, NAMED), lambda: NOW).others
    assert "is for the host *.example.com, not other.net" in [other.why for other in others]


def told(old: Snapshot, new: Snapshot) -> list[str]:
    return [str(change).split(" (")[0] for change in compare(old, new).changes]


def test_a_wildcard_that_comes_gains_there_and_not_at_named_hosts() -> None:
    assert told(world(NAMED), world(NAMED, WILD)) == ["everyone GAINS any method *.example.com/a"]
    assert told(world(NAMED, WILD), world(NAMED, WILD)) == []


def test_a_name_that_becomes_a_wildcard_keeps_its_own() -> None:
    assert told(world(NAMED), world(("named", "host: '*.example.com'", "/a"))) == [
        "everyone GAINS any method *.example.com/a"
    ]
    assert told(world(WILD), world(NAMED)) == ["everyone LOSES any method *.example.com/a"]


def test_each_host_of_several_is_compared() -> None:
    both = world(("both", "hosts: [a.example.com, b.example.com]", "/a"))
    one = world(("both", "hosts: [a.example.com]", "/a"))
    assert told(one, both) == ["everyone GAINS any method b.example.com/a"]


def test_a_condition_on_the_host_is_tried_within_the_wildcard() -> None:
    routes = "- {id: a, match: {host: '*.example.com', path: /a}, policy: p, upstream: api}"
    rule = "policy: p\nrules: [{id: r, allow: ['*'], when: %s}]"
    old = snapshot(routes, rule % "request.host == 'x.example.com'")
    new = snapshot(routes, rule % "request.host == 'y.example.com'")
    lines = told(old, new)
    assert any("GAINS" in line for line in lines)
    assert any("LOSES" in line for line in lines)
    out = snapshot(routes, rule % "request.host == 'y.example.org'")
    assert all("GAINS" not in line for line in told(old, out))


def test_the_decision_sees_one_host_in_any_case() -> None:
    one = world(WILD)
    for host in ("APP.example.com", "app.example.com:8443", "app.EXAMPLE.com."):
        assert decide(one, f"GET http://{host}/a").allowed
