"""What stands last in a path counts without its ending: to Rails `/login/ann.json` is of `ann`."""

from __future__ import annotations

import pytest

from gateway.access.authorizer import Authorizer
from gateway.access.counted_endings import counted_last_text, counted_whole_path
from gateway.access.simulation import (
    FixedAuthenticator,
    FixedClock,
    SimulatedRequest,
    run_sync,
    simulated_call,
)
from gateway.model import Call, Reason
from gateway.rate_limit.limiter import RateLimiter
from tests.access.worlds import NOW, snapshot, who
from tests.databases import Hands

UUID = "6f9619ff-8b86-d011-b42d-00c04fc964ff"


@pytest.mark.parametrize(
    ("text", "counted"),
    [
        ("victim", "victim"),
        *((f"victim.a{n}", "victim") for n in range(5)),
        *((f"victim.{n}", "victim") for n in (0, 7, 12345678)),
        ("VICTIM.JSON", "victim"),
        ("víctim.json", "victim"),
        ("victim .json", "victim"),
        ("victim.", "victim"),
        *((f"victim{mark}{n}", "victim") for mark in "?#&" for n in range(2)),
        ("victim.json?7", "victim"),
        ("VICTIM?a.json", "victim"),
        ("?", "?"),
        ("victim..a", "victim"),
        ("7.1", "7"),
        ("007.json", "7"),
        ("7.0", "7"),
        (UUID.upper() + ".json", UUID),
        ("4155552671.json", "4155552671"),
        ("victim.@x", "victim"),
        # The last one alone.
        ("ann.smith.json", "ann.smith"),
        ("ann.smith.7", "ann.smith"),
        ("www.example.com", "www.example"),
        ("mail.example.com", "mail.example"),
        ("report.tar.gz", "report.tar"),
        ("ann@example.com", "ann@example"),
        ("n1 <Ann@Example.com>", "ann@example"),
        ("bob@mail.example.com", "bob@mail.example"),
        # None at all.
        ("1.2.3", "1.2.3"),
        ("v1.2.3", "v1.2.3"),
        ("1.2.3-rc.1", "1.2.3-rc"),
        ("10.0.0.1", "10.0.0.1"),
        ("415.555.2671", "4155552671"),
        (".env", ".env"),
        (".env.json", ".env"),
        # Below, and before a slash.
        ("a.b/victim.json", "a.b/victim"),
        ("a.b/victim", "a.b/victim"),
        ("victim.json/", "victim"),
    ],
)
def test_an_ending_is_another_name_to_nobody(text: str, counted: str) -> None:
    assert counted_last_text(text, f"/x/{text}") == counted


@pytest.mark.parametrize(
    "text", ["415.5552671", "12345.67", "7.05e2", "x.<victim@localhost>", "+1415.5552671"]
)
def test_what_is_another_with_its_ending_and_without_counts_by_the_address(text: str) -> None:
    """A number to one parser, and to Rails a shorter one in a format."""
    assert counted_last_text(text, f"/x/{text}") is None


@pytest.mark.parametrize(
    ("sent", "text"),
    [
        ("victim.%2Ea0", "victim..a0"),
        ("victim.a%2eb", "victim.a.b"),
        ("victim%2Ea.b", "victim.a.b"),
        ("victim%2Ea0", "victim.a0"),
        ("victim.a%2Eb/", "victim.a.b/"),
    ],
)
def test_what_an_encoded_dot_stands_in_is_no_other_name_either(sent: str, text: str) -> None:
    """Rails splits before it decodes, and others after it."""
    assert counted_last_text(text, f"/x/{sent}") == "victim"
    path = counted_whole_path(f"/x.y/{text}", f"/x%2Ey/{sent}")
    assert path == "/x.y/victim"


def test_an_encoded_dot_before_the_last_segment_ends_nothing() -> None:
    assert counted_last_text("ann.smith.json", "/a%2Eb/ann.smith.json") == "ann.smith"


@pytest.mark.parametrize(
    ("path", "counted"),
    [
        ("/login/victim.a0", "/login/victim"),
        ("/login/VICTIM.a0/", "/login/victim"),
        ("/v1.2/login", "/v1.2/login"),
        ("/users/007.json", "/users/7"),
        ("/users/12345.67", None),
        ("/", "/"),
        ("/.well-known", "/.well-known"),
        ("/hosts/10.0.0.1", "/hosts/10.0.0.1"),
    ],
)
def test_the_last_segment_of_a_path_has_an_ending_too(path: str, counted: str | None) -> None:
    assert counted_whole_path(path, path) == counted


LAST = """
version: 1
upstreams: {api: {targets: [http://127.0.0.1:9001]}}
limits:
  by-param: {key: request.params.name, rate: 1/1h, scope: local}
  by-both: {key: "'n ' + request.params.name", rate: 1/1h, scope: local}
  by-path: {key: request.path, rate: 1/1h, scope: local}
  by-resource: {key: resource.account, rate: 1/1h, scope: local}
  by-choice:
    key: "request.params.name == 'victim.a1' ? 'other' : request.params.name"
    rate: 1/1h
    scope: local
defaults: {upstream: api}
routes:
  - {id: open, match: {path: "/open/{name}"}, auth: public, limits: [by-param]}
  - {id: slash, match: {path: "/slash/{name}/"}, auth: public, limits: [by-param]}
  - {id: deep, match: {path: "/deep/{name:path}"}, auth: public, limits: [by-param]}
  - {id: prefix, match: {prefix: "/prefix/{name}"}, auth: public, limits: [by-param]}
  - id: files
    match: {prefix: "/files/{name}"}
    paths: files
    auth: public
    limits: [by-param]
  - {id: both, match: {path: "/both/{name}"}, policy: signed-in, limits: [by-both]}
  - {id: path, match: {path: "/path/{name}"}, policy: signed-in, limits: [by-path]}
  - id: whole
    match: {path: "/whole/{name}"}
    policy: signed-in
    resource: {account: "{name}"}
    limits: [by-resource]
  - id: part
    match: {path: "/part/{x}/{name}"}
    auth: public
    resource: {account: "{x} {name}"}
    limits: [by-resource]
  - id: made
    match: {path: "/made/{name}/login"}
    auth: public
    rewrite: {path: "/login/{name}"}
    limits: [by-param]
  - id: cut
    match: {path: "/cut/{name}"}
    auth: public
    rewrite: {path: "/{name}/login"}
    limits: [by-param]
  - {id: middle, match: {path: "/middle/{name}/login"}, auth: public, limits: [by-param]}
  - id: within
    match: {path: "/within/{name}/login"}
    auth: public
    resource: {account: "{name}"}
    limits: [by-resource]
  - id: part-within
    match: {path: "/part-within/{name}/{x}"}
    auth: public
    resource: {account: "{name} {x}"}
    limits: [by-resource]
  - {id: choice, match: {path: "/choice/{name}"}, auth: public, limits: [by-choice]}
"""


def passed(*paths: str) -> list[bool]:
    """Which of them pass a limit of one call."""
    world, limiter = snapshot(LAST), RateLimiter(Hands())
    found = []
    for path in paths:
        gate = Authorizer(FixedAuthenticator(who("u1")), limiter, clock=FixedClock(NOW))
        call = simulated_call(SimulatedRequest("POST", path, who("u1"), clock=FixedClock(NOW)))
        assert isinstance(call, Call)
        decision = run_sync(gate, call, world)
        assert decision.allowed or decision.refusal is Reason.RATE_LIMITED
        found.append(decision.allowed)
    return found


@pytest.mark.parametrize(
    "path",
    [
        "/middle/{}/login",
        "/within/{}/login",
        "/part-within/{}/x",
        "/cut/{}",
        "/made/{}/login",
        "/open/{}",
    ],
)
def test_what_is_made_a_query_of_ends_at_its_marks_wherever_it_stands(path: str) -> None:
    names = ("victim", "victim&1", "VICTIM%26a=1", "victim%3F0", "victim%23")
    assert passed(*(path.format(name) for name in names)) == [True, *[False] * 4]
    assert passed(path.format("a&victim"), path.format("b&victim")) == [True, True]
    assert passed(path.format("a.json"), path.format("b.json")) == [True, True]


@pytest.mark.parametrize(
    "path",
    [
        "/open/{}",
        "/slash/{}/",
        "/deep/{}",
        "/deep/a.b/{}",
        "/prefix/{}",
        "/prefix/{}/",
        "/prefix/{}/%20",
        "/files/{}/;x",
        "/both/{}",
        "/path/{}",
        "/whole/{}",
        "/part/a.b/{}",
        "/made/{}/login",
    ],
)
def test_whoever_guesses_has_no_more_tries_than_the_name_has(path: str) -> None:
    names = ("victim", "victim.a0", "victim.a1", "VICTIM.json", "victim.%2Ea0", "other.a0")
    assert passed(*(path.format(name) for name in names)) == [True, *[False] * 4, True]


@pytest.mark.parametrize(
    "path", ["/cut/{}", "/middle/{}/login", "/part/{}/x", "/prefix/{}/x", "/prefix/{}/x/"]
)
def test_what_does_not_stand_last_where_it_is_sent_has_no_ending(path: str) -> None:
    assert passed(*(path.format(name) for name in ("www.a", "www.b"))) == [True, True]


def test_what_a_key_asks_it_sees_as_it_was_written() -> None:
    assert passed("/choice/victim", "/choice/victim.a1", "/choice/victim.a2") == [True, True, False]
