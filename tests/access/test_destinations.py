"""COPY and MOVE write another path than that of their request line: nobody writes where they may
not by it."""

from __future__ import annotations

from urllib.parse import quote

import pytest

from gateway.access.authorizer import Authorizer
from gateway.access.routing.destinations import has_destination
from gateway.access.simulation import FixedAuthenticator, FixedClock, NoLimits
from gateway.model import Principal, Reason
from tests.access.decision_world import call_of
from tests.access.worlds import NOW, decide, snapshot, who
from tests.cpu_cost import cost_ratio

ANN = who("ann")
POLICIES = (
    "policy: nobody\nrules: [{id: none, deny: ['*']}]",
    "policy: own\nrules: [{id: own, allow: [files], when: request.params.user == user.id}]",
    "policy: hour\nrules: [{id: all, allow: ['*']}]",
)
ROUTES = """
    - {id: files, match: {path: "/dav/{user}/{rest:path}"}, policy: own, action: files,
       paths: files, allow_encoded_slash: true, upstream: api}
    - {id: personnel, match: {prefix: /hr}, policy: nobody, upstream: api}
    - {id: shelf, match: {path: "/shelf/{rest:path}"}, auth: public, upstream: api}
    - {id: shelf.own, match: {prefix: /shelf/own}, policy: nobody, upstream: api}
    - {id: all, match: {path: "/all/{rest:path}"}, policy: hour, upstream: api}
    - {id: moved, match: {prefix: /moved}, policy: hour, upstream: api,
       rewrite: {strip_prefix: /moved}}
"""
WORLD = snapshot(ROUTES, *POLICIES)


def asked(
    method: str, path: str, *destinations: str, caller: Principal | Reason = ANN
) -> tuple[bool, str]:
    fields = tuple(("Destination", one) for one in destinations)
    decision = decide(WORLD, f"{method} http://here.example{path}", caller, headers=fields)
    return decision.allowed, decision.reason


@pytest.mark.parametrize("method", ["COPY", "MOVE"])
@pytest.mark.parametrize(
    "destination",
    ["/dav/ann/b", "http://here.example/dav/ann/b", "https://HERE.example.:8443/dav/ann/b;v1",
     "/dav/ann/a%2Fb", "/dav/%61nn/b/", "/dav/ann/a,b", "/dav/ann/a%2C/b", "/dav/ann/b,ftp:x"],
)  # fmt: skip
def test_who_may_write_there_copies_and_moves(method: str, destination: str) -> None:
    assert asked(method, "/dav/ann/a", destination)[0]


def test_a_long_name_with_some_signs_is_copied_and_moved() -> None:
    for name in ("中" * 341, "é" * 512, "x" * 1_024, "مجلد" * 128):
        path = f"/dav/ann/{quote(name)};v%2541.tar.gz"
        assert asked("MOVE", path, path.replace("/ann/", "/ann/b%5C"))[0]
        assert asked("COPY", "/dav/ann/a", f"/dav/ann/b%255Cc/{quote(name)}%25;/a.txt")[0]


@pytest.mark.parametrize(
    ("before", "often", "after"),
    [
        ("Books(%252541index.phpfilter[team]default.%C3%A9filter[team=%3B0", "7@/.a<!", "]index.php%255C"),
        (":%5C", "+%E2%80%A6/_next/data/x+7", "default.-x=y;_next/data/admin%252541_next/data/"),
        ("%252541^%3B", "${rsc/r/]!", "7a.py/%C3%A9*"),
        ("x=y;__data.jso.php-0x7)", "%E4%B8%AD/-", "epf/"),
        ("a%2Fb%255C%3B", "%C3%A9/", "x.php/a%2541.b"),
    ],
)  # fmt: skip
def test_a_long_destination_costs_no_more_than_a_short_one_of_as_many_readings(
    before: str, often: str, after: str
) -> None:
    count = (13_900 - len(before + after)) // len(often)
    path = f"/dav/ann/{before}{often * count}{after}"
    # Measured 25 at most; where each reading has as many letters as one, 425.
    assert cost_ratio(lambda: asked("MOVE", "/dav/ann/x", path)) < 80


@pytest.mark.parametrize("method", ["COPY", "MOVE"])
@pytest.mark.parametrize("path", ["/dav/bob/a", "/dav/bob/a;x", "/dav/b%6fb/a"])
def test_the_policy_judges_what_is_written_too(method: str, path: str) -> None:
    assert asked(method, "/dav/ann/a", f"http://here.example{path}") == (False, Reason.NO_RULE)


@pytest.mark.parametrize(
    "destination",
    ["/hr/payroll", "http://here.example/hr/payroll", "/shelf/x", "/nowhere", "/dav/ann",
     "http://there.example/dav/ann/b", "//here.example/dav/ann/b", "/dav/ann/../bob/b",
     "/dav/ann/%2e%2e/b", "/dav/ann//b", "dav/ann/b", "b", "", "*", "ftp://here.example/dav/ann/b",
     "http://ann@here.example/dav/ann/b", "http://here.example/dav/ann/b?x=1", "/dav/ann/b#x",
     "/dav/ann/b, /hr/x", "/dav/ann/b,/hr/x", "/dav/ann/b,/dav/ann/c", "/dav/ann/b,,//there.example/x",
     "/dav/ann/b,http://here.example/hr/x", "http://here.example/dav/ann/b,HTTPS://here.example/x",
     "http://here.example", "/dav/ann/%00", "/DAV/ann/b", "/dav/ann/b%5C..%5Cc"],
)  # fmt: skip
def test_what_is_no_path_of_the_same_route_is_refused(destination: str) -> None:
    assert asked("MOVE", "/dav/ann/a", destination) == (False, Reason.AMBIGUOUS_PATH)


def test_a_slash_that_came_encoded_is_written_only_where_the_route_takes_one() -> None:
    assert asked("MOVE", "/all/a", "/all/b")[0]
    assert asked("MOVE", "/all/a", "/all/b%2Fc") == (False, Reason.AMBIGUOUS_PATH)


@pytest.mark.parametrize(
    ("names", "has"),
    [([], False), ([b"Depth", b"Host"], False), ([b"Depth", b"DESTINATION"], True)],
)
def test_whether_another_path_is_named_is_told_by_the_field(names: list[bytes], has: bool) -> None:
    assert has_destination(tuple((name, b"/dav/ann/b") for name in names)) is has


def test_two_of_them_are_none() -> None:
    both = ("/dav/ann/b", "/dav/ann/c")
    assert asked("COPY", "/dav/ann/a", *both) == (False, Reason.AMBIGUOUS_PATH)


def test_strangers_write_nothing_that_is_protected() -> None:
    assert asked("COPY", "/shelf/a", "/shelf/b", caller=Reason.NO_CREDENTIAL)[0]
    for path in ("/shelf/own/b", "/SHELF/OWN/b", "/hr/b"):
        found = asked("COPY", "/shelf/a", path, caller=Reason.NO_CREDENTIAL)
        assert found == (False, Reason.AMBIGUOUS_PATH)


def test_a_rewrite_does_not_tell_what_the_backend_writes() -> None:
    for path in ("/moved/b", "/hr/b"):
        assert asked("MOVE", "/moved/a", path) == (False, Reason.AMBIGUOUS_PATH)
    assert asked("MOVE", "/moved/a")[0]


def test_only_these_methods_read_it() -> None:
    for path in ("/dav/ann/a", "/dav/ann/a%2Fb", "/dav/ann/a;b"):
        assert asked("PUT", path, "/hr/payroll")[0]
    assert asked("COPY", "/dav/ann/a")[0]


def test_what_lasts_is_judged_by_what_it_writes_too() -> None:
    call = call_of("MOVE /all/a", ANN, headers=(("Destination", "/all/b"),))
    judge = Authorizer(FixedAuthenticator(ANN), NoLimits(), clock=FixedClock(NOW))
    assert judge.reevaluate(call, WORLD, ANN).allowed
    closed = ROUTES + "\n    - {id: b, match: {path: /all/b}, policy: nobody, upstream: api}"
    found = judge.reevaluate(call, snapshot(closed, *POLICIES), ANN)
    assert found.reason == Reason.AMBIGUOUS_PATH
