"""`accept`, `challenge` and `realm`, as they are read from `routes.yaml`."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.access.definitions import Challenge, ChallengeScheme
from gateway.access.routing.routes import Route
from gateway.edge.replies.problems import problem_parts
from gateway.model import CredentialKind, Reason
from tests.access.worlds import problems, snapshot

ROUTE = "- {{id: a, match: {{path: /a}}, policy: signed-in, upstream: api, {0}}}\n"


def route(keys: str) -> Route:
    found = snapshot(ROUTE.format(keys)).routes.get("a")
    assert found is not None
    return found


def test_basic_counts_only_where_a_route_says_so() -> None:
    """An application's own Basic must not be taken for a key of ours."""
    assert route("action: a").accept == frozenset(
        (CredentialKind.BEARER, CredentialKind.COOKIE, CredentialKind.API_KEY)
    )
    assert CredentialKind.BASIC in route("accept: [cookie, basic]").accept


def test_a_challenge_is_read_key_by_key() -> None:
    assert route("action: a").challenge == Challenge(ChallengeScheme.BEARER, "authgate")
    assert route("realm: Packages").challenge == Challenge(ChallengeScheme.BEARER, "Packages")
    world = snapshot(
        """
        version: 1
        upstreams: {api: {targets: [http://127.0.0.1:9001]}}
        defaults: {policy: signed-in, upstream: api, accept: [basic], challenge: basic, realm: R}
        routes:
          - {id: a, match: {path: /a}}
          - {id: b, match: {path: /b}, realm: S}
          - {id: c, match: {path: /c}, challenge: bearer, accept: [bearer]}
          - {id: d, match: {path: /d}, auth: public, accept: [bearer]}
        """
    )
    basic, bearer = ChallengeScheme.BASIC, ChallengeScheme.BEARER
    assert {one.id: (one.challenge.scheme, one.challenge.realm) for one in world.routes} == {
        "a": (basic, "R"), "b": (basic, "S"), "c": (bearer, "R"), "d": (basic, "R"),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ("challenge: basic", "add `basic` to `accept`"),
        ("challenge: digest", "`challenge` cannot be `digest`"),
        ("accept: [basik]", "did you mean `basic`"),
        ('realm: ""', "`realm` is empty"),
        ("realm: 5", "`realm` is text"),
        ('realm: "a\\r\\nSet-Cookie: x=1"', "printable ASCII"),
        ("realm: Käse", "printable ASCII"),
        (f"realm: {'r' * 129}", "1 to 128"),
    ],
)
def test_a_mistake_is_told(keys: str, said: str) -> None:
    found = problems(ROUTE.format(keys))
    assert any(said in one for one in found), found


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=128))
def test_a_realm_is_quoted_so_that_it_reads_back(realm: str) -> None:
    challenge = Challenge(ChallengeScheme.BASIC, realm)
    _, fields, _ = problem_parts(Reason.NO_CREDENTIAL, None, "r", challenge=challenge)
    value = fields["WWW-Authenticate"]
    prefix, suffix = 'Basic realm="', '", charset="UTF-8"'
    assert value.startswith(prefix)
    assert value.endswith(suffix)
    quoted, read, at = value[len(prefix) : -len(suffix)], "", 0
    while at < len(quoted):
        assert quoted[at] != '"', "the quoted-string has ended before its end"
        at += quoted[at] == "\\"
        read += quoted[at]
        at += 1
    assert read == realm
