"""`gateway diff` of what no route says: whom tokens speak of, and where an open route leads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.access.simulation import FixedClock, SimulatedRequest, simulate
from gateway.access.snapshot import Snapshot
from gateway.cli import main
from gateway.config.compile import Sources, compile_snapshot
from gateway.config.secrets import UnreadSecrets
from gateway.model import Principal
from gateway.review.diff import compare
from gateway.review.issued import caller_of
from tests.access.worlds import NOW, snapshot

HEAD = """
version: 1
upstreams:
  api: {targets: ["http://127.0.0.1:9001"]}
  same: {targets: ["http://127.0.0.1:9001"]}
  inner: {targets: ["http://127.0.0.1:9002"]}
"""
TAKES_K = "routes:\n  - {id: a, match: {path: /a}, policy: p, issuers: [own, k], upstream: api}\n"
ADMINS = "policy: p\nrules:\n  - {id: r, allow: ['*'], when: \"has_role('admin')\"}\n"
EVERYONE = "policy: p\nrules:\n  - {id: r, allow: ['*'], when: user != null}\n"
NOT_GUESTS = "policy: p\nrules:\n  - {id: r, allow: ['*'], when: \"!has_role('guest')\"}\n"


def of_issuer(definition: str, policy: str = EVERYONE) -> Snapshot:
    issuer = f"issuers:\n  k: {{issuer: 'https://id.example', {definition}}}\n"
    return snapshot(HEAD + issuer + TAKES_K, policy)


def told(old: Snapshot, new: Snapshot) -> list[str]:
    report = compare(old, new)
    assert report.may_widen is any(one.gains for one in report.definitions)
    assert not report.widened
    return [
        f"{'+' if one.gains else '-'} {one.name} {','.join(one.fields)}"
        for one in report.definitions
    ]


@pytest.mark.parametrize(
    ("old", "new", "policy", "lines"),
    [
        ("audience: a", "audience: [a, b]", EVERYONE, ["+ issuers.k audience"]),
        ("audience: [a, b]", "audience: a", EVERYONE, ["- issuers.k audience"]),
        ("audience: a, require: {azp: [x]}", "audience: a", EVERYONE, ["+ issuers.k require"]),
        ("audience: a", "audience: a, require: {azp: [x]}", EVERYONE, ["- issuers.k require"]),
        ("audience: a, require: {azp: [x]}", "audience: a, require: {azp: [x, y]}", EVERYONE,
         ["+ issuers.k require"]),
        ("audience: a", "audience: a, roles: claims.groups", ADMINS, ["+ issuers.k roles"]),
        ("audience: a, roles: claims.groups", "audience: a", ADMINS, ["- issuers.k roles"]),
        # Who has no role any more is no guest any more.
        ("audience: a, roles: claims.groups", "audience: a", NOT_GUESTS,
         ["+ issuers.k roles", "- issuers.k roles"]),
        ("audience: a", "audience: a, roles: claims.groups", EVERYONE, []),
        ("audience: a", "audience: a, subject: claims.email", EVERYONE,
         ["+ issuers.k subject", "- issuers.k subject"]),
        ("audience: a", "audience: a, leeway: 60s", EVERYONE, ["+ issuers.k leeway"]),
        ("audience: a, algorithms: [RS256]", "audience: a, algorithms: [RS256, ES256]", EVERYONE,
         ["+ issuers.k algorithms"]),
        ("audience: a", "audience: a", EVERYONE, []),
    ],
)  # fmt: skip
def test_an_edit_of_an_issuer_is_told(old: str, new: str, policy: str, lines: list[str]) -> None:
    assert told(of_issuer(old, policy), of_issuer(new, policy)) == lines


def test_an_issuer_that_no_route_takes_is_none_by_which_somebody_gains() -> None:
    routes = TAKES_K.replace("own, k", "own")
    sides = [
        snapshot(HEAD + f"issuers: {{k: {{issuer: 'https://i.example', audience: {a}}}}}\n" + routes,
                 EVERYONE)
        for a in ("a", "b")
    ]  # fmt: skip
    assert told(*sides) == []


AUDIENCES = st.sampled_from(["audience: a", "audience: [a, b]", "audience: b"])
REQUIRED = st.sampled_from(
    ["", ", require: {azp: [x]}", ", require: {azp: [x, y]}", ", require: {azp: [x], tier: [1]}"]
)
ROLES = st.sampled_from(["", ", roles: claims.groups", ", roles: claims.more"])
SUBJECTS = st.sampled_from(["", ", subject: claims.oid"])
ISSUERS = st.tuples(AUDIENCES, REQUIRED, ROLES, SUBJECTS).map("".join)
POLICIES = st.sampled_from(
    [EVERYONE, ADMINS, NOT_GUESTS, EVERYONE.replace("user != null", "\"user.id == 'k:ann'\"")]
)
CLAIMS = st.fixed_dictionaries(
    {
        "sub": st.sampled_from(["ann", "bob"]),
        "aud": st.sampled_from(["a", "b", "c"]),
        "groups": st.sampled_from([[], ["admin"], ["guest"], ["admin", "guest"]]),
        "more": st.sampled_from([[], ["admin"], ["guest"]]),
    },
    optional={
        "azp": st.sampled_from(["x", "y", "z"]),
        "tier": st.sampled_from([1, 2]),
        "oid": st.sampled_from(["ann", "bob"]),
    },
)


@settings(max_examples=60, deadline=None)
@given(ISSUERS, ISSUERS, POLICIES, st.lists(CLAIMS, min_size=20, max_size=20))
def test_whoever_gains_or_loses_by_an_issuer_is_told(
    old: str, new: str, policy: str, tokens: list[dict[str, Any]]
) -> None:
    sides = of_issuer(old, policy), of_issuer(new, policy)
    moved = {one.gains for one in compare(*sides).definitions}
    for claims in tokens:
        before, after = (passes(side, claims) for side in sides)
        assert before is after or after in moved, (claims, moved)


def passes(side: Snapshot, claims: dict[str, Any]) -> bool:
    caller = caller_of(side.issuers["k"], claims, side, NOW)
    if not isinstance(caller, Principal):
        return False
    asked = SimulatedRequest("GET", "/a", caller, clock=FixedClock(NOW))
    return simulate(asked, side).decision.allowed


DEPARTMENT = "policy: p\nrules:\n  - {id: r, allow: ['*'], when: \"user.attributes.dep == 'x'\"}\n"
BY_CLAIM = DEPARTMENT.replace("attributes.dep", "claims.dep")
OWN = "routes:\n  - {id: a, match: {path: /a}, policy: p, upstream: api}\n"


@pytest.mark.parametrize(
    ("old", "new", "policy", "lines"),
    [
        ("{set_by: operator}", "{set_by: [operator, person]}", DEPARTMENT, ["+ attributes.dep set_by"]),
        ("{set_by: [operator, person]}", "{set_by: operator}", DEPARTMENT, ["- attributes.dep set_by"]),
        ("{set_by: person, values: [y]}", "{set_by: person, values: [x, y]}", DEPARTMENT,
         ["+ attributes.dep values"]),
        ("{set_by: operator}", "{set_by: person}", EVERYONE, []),
        ("{set_by: person}", "{set_by: person, claim: dep}", BY_CLAIM,
         ["+ attributes.dep claim", "- attributes.dep claim"]),
        (None, "{set_by: person, claim: dep}", BY_CLAIM,
         ["+ attributes.dep claim", "- attributes.dep claim"]),
        # Nobody read it: what a route asks of it now is told of the route.
        (None, "{set_by: person}", BY_CLAIM, []),
    ],
)  # fmt: skip
def test_an_edit_of_who_sets_an_attribute_is_told(
    old: str | None, new: str, policy: str, lines: list[str]
) -> None:
    sides = [
        snapshot(HEAD + ("" if a is None else f"attributes: {{dep: {a}}}\n") + OWN, policy)
        for a in (old, new)
    ]
    assert told(*sides) == lines


def test_a_new_attribute_by_which_a_route_asks_more_is_no_gain() -> None:
    attribute = "attributes: {dep: {set_by: operator}}\n"
    asks = ADMINS.replace("has_role('admin')", "has_role('admin') && user.attributes.dep == 'x'")
    report = compare(snapshot(HEAD + OWN, ADMINS), snapshot(HEAD + attribute + OWN, asks))
    assert [one.gains for one in report.changes] == [False]
    assert report.definitions == []
    assert not report.may_widen


@pytest.mark.parametrize(
    ("old", "new", "lines"),
    [
        ("{roles: [admin], within: 7d}", "", ["+ require_factor "]),
        ("", "{roles: [admin], within: 7d}", ["- require_factor "]),
        ("{roles: [admin, lead], within: 7d}", "{roles: [admin], within: 7d}", ["+ require_factor "]),
        ("{roles: [admin], within: 7d}", "{roles: [admin], within: 30d}", ["+ require_factor within"]),
        ("{roles: [admin], within: 7d}", "{roles: [admin], within: 1d}", ["- require_factor within"]),
    ],
)  # fmt: skip
def test_an_edit_of_who_needs_a_second_factor_is_told(old: str, new: str, lines: list[str]) -> None:
    sides = [
        snapshot(HEAD + (f"require_factor: {one}\n" if one else "") + OWN, EVERYONE)
        for one in (old, new)
    ]
    assert told(*sides) == lines


PROVIDER = "issuer: 'https://id.example', client_id: c, client_secret: {secret: s}"


@pytest.mark.parametrize(
    ("old", "new", "lines"),
    [
        (None, PROVIDER, ["+ providers.g "]),
        (PROVIDER, None, ["- providers.g "]),
        (PROVIDER + ", trust_email: true", PROVIDER + ", trust_email: true, accounts: create",
         ["+ providers.g accounts"]),
        (PROVIDER + ", domains: [a.example]", PROVIDER, ["+ providers.g domains"]),
        (PROVIDER, PROVIDER + ", roles: claims.groups",
         ["+ providers.g roles", "- providers.g roles"]),
    ],
)  # fmt: skip
def test_an_edit_of_who_signs_in_by_a_provider_is_told(
    old: str | None, new: str | None, lines: list[str]
) -> None:
    before, after = (
        compile_snapshot(
            Sources(
                (
                    "routes.yaml",
                    HEAD + ("" if one is None else f"providers: {{g: {{{one}}}}}\n") + OWN,
                ),
                (("policies/p.yaml", "version: 1\n" + EVERYONE),),
            ),
            secrets=UnreadSecrets(),
        )
        for one in (old, new)
    )
    assert isinstance(before, Snapshot)
    assert isinstance(after, Snapshot)
    assert told(before, after) == lines


def route(keys: str, match: str = "path: '/a/{x}'", who: str = "auth: public") -> Snapshot:
    return snapshot(HEAD + f"routes:\n  - {{id: a, match: {{{match}}}, {who}, {keys}}}\n", ADMINS)


def lines_of(old: Snapshot, new: Snapshot) -> list[str]:
    return [str(one).partition(" (")[0] for one in compare(old, new).changes]


SIGNED_IN = "policy: signed-in"


@pytest.mark.parametrize("who", ["auth: public", SIGNED_IN])
@pytest.mark.parametrize(
    "closed",
    ["direct_response: {status: 404}", "direct_response: {status: 403}", "redirect: {to: /login}"],
)
def test_a_path_that_a_route_closed_is_a_gain_where_a_backend_answers(
    closed: str, who: str
) -> None:
    told = "everyone" if who == "auth: public" else "everyone signed in"
    before, after = route(closed, who=who), route("upstream: api", who=who)
    assert lines_of(before, after) == [f"{told} GAINS any method /a/{{x}}"]
    assert lines_of(after, before) == [f"{told} LOSES any method /a/{{x}}"]


def test_whoever_passes_once_a_closed_path_is_a_backends_again_gains() -> None:
    closed = (
        "  - {id: m, match: {prefix: /in}, policy: signed-in, direct_response: {status: 403}}\n"
    )
    rest = "  - {id: r, match: {prefix: /, except_reserved: true}, policy: p, upstream: api}\n"
    before = snapshot(HEAD + "routes:\n" + closed + rest, ADMINS)
    after = snapshot(HEAD + "routes:\n" + rest, ADMINS)
    assert lines_of(before, after) == ["admin GAINS any method /in/**"]


def test_a_route_that_answers_by_itself_is_less_than_a_backend_and_more_than_none() -> None:
    closed, answers, backend = (
        route(one)
        for one in (
            "direct_response: {status: 404}",
            "direct_response: {status: 200}",
            "upstream: api",
        )
    )
    assert lines_of(closed, answers) == ["everyone GAINS any method /a/{x}"]
    assert lines_of(answers, backend) == ["everyone GAINS any method /a/{x}"]
    assert lines_of(closed, route("direct_response: {status: 403}")) == []


@pytest.mark.parametrize(
    ("old", "new", "because"),
    [
        ("upstream: api", "upstream: inner", "it leads to the upstream inner, not api"),
        ("upstream: api", "upstream: same", None),
        ("upstream: api", "upstream: api, rewrite: {path: /admin}",
         "it leads to /admin, not the path as it came"),
        ("upstream: api, rewrite: {path: '/b/{x}'}", "upstream: api, rewrite: {path: '/c/{x}'}",
         "it leads to /c/{x}, not /b/{x}"),
        ("upstream: api", "upstream: api, rewrite: {strip_prefix: /a}",
         "it leads to /… without /a, not the path as it came"),
    ],
)  # fmt: skip
def test_an_open_route_that_leads_elsewhere_may_give_more(
    old: str, new: str, because: str | None
) -> None:
    report = compare(route(old), route(new))
    assert [one.because for one in report.changes] == ([because] if because else [])
    assert report.may_widen is (because is not None)
    assert not report.widened
    # Who passes a route that asks for somebody is told; what is behind it, is not.
    assert compare(route(old, who=SIGNED_IN), route(new, who=SIGNED_IN)).changes == []


def rewrites(*paths: str) -> Snapshot:
    """An open route for each `/z/{t}/{x} /q/{t}`."""
    routes = "".join(
        f"  - {{id: r{n}, match: {{path: '{one}'}}, auth: public, upstream: api,"
        f" rewrite: {{path: '{other}'}}}}\n"
        for n, (one, other) in enumerate(map(str.split, paths))
    )
    return snapshot(HEAD + "routes:\n" + routes)


@pytest.mark.parametrize(
    ("old", "new", "because"),
    [
        (["/z/{t}/{x} /q/{t}"], ["/z/{t}/{x} /q/{t}", "/z/a/{x} /q/{x}"],
         ["it leads to /q/{x}, not /q/{t}"]),
        (["/z/{t}/{x} /q/{x}"], ["/z/{t}/{x} /q/{x}", "/z/a/{x} /q/{x}"], []),
        (["/z/{t}/{x} /q/{t}/{x}"], ["/z/{t}/{x} /q/{t}/{x}", "/z/a/{x} /q/a/{x}"], []),
        # Another part of the path, of the same name.
        (["/z/{t}/{x} /q/{x}"], ["/z/{x}/{t} /q/{x}"],
         ["it leads to /q/other-x-1, not /q/other-t-2"]),
        (["/z/{t:int}/{x:int} /q/{t}"], ["/z/{t:int}/{x:int} /q/{x}"],
         ["it leads to /q/{x}, not /q/{t}"]),
    ],
)  # fmt: skip
def test_a_rewrite_is_told_where_it_makes_another_path_of_the_same_one(
    old: list[str], new: list[str], because: list[str]
) -> None:
    assert [one.because for one in compare(rewrites(*old), rewrites(*new)).changes] == because


def test_parameters_of_a_rewrite_may_be_named_anew() -> None:
    old = route("upstream: api, rewrite: {path: '/b/{x}'}")
    new = route("upstream: api, rewrite: {path: '/b/{y}'}", match="path: '/a/{y}'")
    assert compare(old, new).changes == []


def test_the_command_tells_of_definitions_and_fails_on_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, audience in (("old", "a"), ("new", "[a, b]")):
        (tmp_path / name / "policies").mkdir(parents=True)
        issuer = f"issuers:\n  k: {{issuer: 'https://id.example', audience: {audience}}}\n"
        (tmp_path / name / "routes.yaml").write_text(HEAD + issuer + TAKES_K)
        (tmp_path / name / "policies" / "p.yaml").write_text("version: 1\n" + EVERYONE)
    words = ["diff", str(tmp_path / "old"), str(tmp_path / "new"), "--fail-on", "widen"]
    assert main(words) == 1
    out = capsys.readouterr().out.replace("\n", " ")
    assert "whoever has a token of k MAY GAIN the route a" in out
    assert "1 gained, 0 lost" in out
    assert main([*words, "--json"]) == 1
    (one,) = json.loads(capsys.readouterr().out)["definitions"]
    assert (one["change"], one["definition"], one["fields"]) == ("gains", "issuers.k", ["audience"])


def notes_denied(when: str) -> Snapshot:
    """A route whose resource is a field of the body, which a deny reads."""
    routes = """
    - id: notes
      match: {path: /notes, methods: [POST]}
      policy: p
      upstream: api
      resource: {n: "{body.n}"}
    """
    policy = f"""
    policy: p
    rules:
      - {{id: all, allow: ["*"], when: user != null}}
      - {{id: not, deny: ["*"], when: "{when}"}}
    """
    return snapshot(routes, policy)


def test_a_body_that_may_come_in_another_form_is_told() -> None:
    """Nobody is named by it: whoever may call at all may send it."""
    strict, lax = notes_denied("resource.n == 7 && 1 == 2"), notes_denied("1 == 2")
    report = compare(strict, lax)
    assert report.may_widen
    assert [str(one) for one in report.definitions] == [
        "whoever sends a field of the body in another form MAY GAIN the route notes"
        " (routes.yaml:12) by `routes.notes.resource`"
    ]
    assert compare(lax, strict).definitions == []
    assert compare(strict, strict).definitions == []


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("resource.n.x == 'a'", "resource.n.x == 'a' || has(resource.n.y)"),
        ("resource.n == 'x'", "resource.n in ['x', 'y']"),
        ("resource.n == 7", "resource.n == 7 || resource.n == 'x'"),
        ("'x' in resource.n", "'x' in resource.n || 7 in resource.n"),
        ("user.email == ''", "resource.n == 7"),
        ("resource.n == 7", "resource.n in [7, '7']"),
        ("resource.n == 0 || resource.n == 'x'", "resource.n in [0, 'x', 'y']"),
    ],
)
def test_a_deny_that_names_more_lets_no_form_pass(before: str, after: str) -> None:
    report = compare(notes_denied(before), notes_denied(after))
    assert not [one for one in report.definitions if one.name.startswith("routes.")]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("resource.n == 9", "resource.n == 9.0"),
        # Beside texts other words are values, which only PHP takes for 0.
        ("resource.n == 0", "resource.n in [0, 'none']"),
        ("resource.n == user.id", "resource.n == 'u1'"),
    ],
)
def test_a_deny_that_lets_a_form_pass_is_told(before: str, after: str) -> None:
    was, now = (next(iter(notes_denied(one).routes)).body_values for one in (before, after))
    assert was is not None
    assert now is not None
    assert now.takes_what_refuses(was)


def teams_denied(when: str) -> Snapshot:
    """A route that takes the path, the query and a header, which a deny reads."""
    routes = """
    - id: teams
      match: {path: "/teams/{p}", methods: [GET]}
      policy: p
      upstream: api
      resource: {n: "{query.n}", h: "{headers.x-h}"}
    """
    policy = f"""
    policy: p
    rules:
      - {{id: all, allow: ["*"], when: user != null}}
      - {{id: not, deny: ["*"], when: "{when}"}}
    """
    return snapshot(routes, policy)


@pytest.mark.parametrize("place", ["request.params.p", "resource.n", "resource.h"])
def test_a_value_that_may_come_in_another_spelling_is_told(place: str) -> None:
    strict, lax = teams_denied(f"{place} == 'hr' && 1 == 2"), teams_denied("1 == 2")
    report = compare(strict, lax)
    assert report.may_widen
    assert [str(one) for one in report.definitions] == [
        "whoever writes a value of the path, the query or a header in another way MAY GAIN the"
        " route teams (routes.yaml:12) by `routes.teams.resource`"
    ]
    assert compare(lax, strict).definitions == []
    assert compare(strict, strict).definitions == []


@pytest.mark.parametrize(
    ("before", "after", "lets_pass"),
    [
        ("resource.n == 'x'", "resource.n in ['x', 'y']", False),
        ("resource.n == 'x'", "resource.n == 'x' || resource.h == 'x'", False),
        ("resource.n in ['x', 'y']", "resource.n == 'x'", True),
        ("resource.n == user.id", "resource.n == 'x'", True),
        ("resource.n == '7'", "resource.n == 'x'", True),
        ("resource.n == 'x'", "request.params.p == 'x'", True),
    ],
)
def test_a_deny_that_lets_a_spelling_pass_is_told(before: str, after: str, lets_pass: bool) -> None:
    was, now = (next(iter(teams_denied(one).routes)).text_values for one in (before, after))
    assert was is not None
    assert now is not None
    assert now.takes_what_refuses(was) is lets_pass
