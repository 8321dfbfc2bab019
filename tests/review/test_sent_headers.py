"""What a backend receives, as tests expect it and `gateway explain` shows it."""

from __future__ import annotations

import pytest

from gateway.access.explanation import explain
from gateway.access.simulation import SimulatedRequest, SimulatedResult, simulate
from gateway.model import Principal
from gateway.review.cases import Case, read_cases
from gateway.review.mutants import mutation_report
from gateway.review.rendering import as_data, as_text
from gateway.review.suite import run_cases
from tests.access.worlds import snapshot, who
from tests.review.test_suite import status

WORLD = snapshot(
    """
    version: 1
    defaults: {identity_headers: authelia}
    upstreams:
      api: {targets: [http://127.0.0.1:9001], assertion: {audience: api}}
      plain: {targets: [http://127.0.0.1:9002]}
    routes:
      - {id: a, match: {path: /a}, policy: p, upstream: api,
         request: {set_headers: {X-Zone: eu}}}
      - {id: open, match: {path: /open}, auth: public, upstream: plain}
      - {id: own, match: {path: /own}, policy: p, direct_response: {status: 204}}
    """,
    """
    policy: p
    rules:
      - {id: all, allow: ['*'], when: "!('out' in user.roles)", headers: {X-Who: '{user.id}'}}
    """,
)
ADA = who("u1", "dev", email="ada@x.org", email_verified=True)


def asked(path: str, caller: Principal) -> SimulatedResult:
    return simulate(SimulatedRequest("GET", path, caller), WORLD)


def shown(path: str, caller: Principal) -> tuple[dict[str, str], list[str]]:
    answer = asked(path, caller)
    assert answer.call is not None
    told = explain(answer.decision, answer.call, WORLD, lambda: 0.0)
    lines = [text.strip() for text, _ in as_text(answer.decision, 200, told)]
    headers = as_data(answer.decision, 200, told).get("headers", {})
    assert all(f"{name}: {value}" in lines for name, value in headers.items())
    return headers, lines


def test_explain_shows_what_the_backend_receives() -> None:
    headers, _ = shown("/a", ADA)
    assert headers == {
        "X-Zone": "eu",
        "X-Who": "u1",
        "Remote-User": "ada@x.org",
        "Remote-Groups": "dev",
        "Remote-Email": "ada@x.org",
        "Remote-Name": "ada@x.org",
        "X-Auth-Assertion": "(signed for each call)",
    }


@pytest.mark.parametrize(
    ("path", "caller"), [("/open", ADA), ("/own", ADA), ("/a", who("u1", "out"))]
)
def test_nothing_is_sent_of_a_call_that_is_nobodys_or_reaches_no_backend(
    path: str, caller: Principal
) -> None:
    assert shown(path, caller)[0] == {}


HEAD = "version: 1\npeople: {ada: {id: u1, email: ada@x.org, verified: true, roles: [out, dev]}}\n"


def failures(expect: str, who: str = "{id: u1, roles: [dev]}") -> list[tuple[str, object, object]]:
    text = f"{HEAD}cases: [{{as: {who}, request: GET /a, expect: {{{expect}}}}}]"
    cases = read_cases("tests.yaml", text, WORLD)
    assert all(isinstance(case, Case) for case in cases), [str(one) for one in cases]
    (result,) = run_cases(cases, WORLD, status)  # type: ignore[arg-type]
    return [(one.what, one.expected, one.actual) for one in result.differences]


def test_a_case_expects_headers_by_name() -> None:
    assert failures("decision: allow, headers: {x-who: u1, Remote-Groups: dev, X-Zone: eu}") == []
    assert failures("headers: {Remote-Email: null}") == []
    assert failures("headers: {X-Who: u2, Remote-Email: ada@x.org, Remote-User: null}") == [
        ("header X-Who", "u2", "u1"),
        ("header Remote-Email", "ada@x.org", "none"),
        ("header Remote-User", "none", "u1"),
    ]


def test_a_call_that_is_denied_sends_nothing() -> None:
    assert failures("headers: {X-Who: null}", "ada") == []
    assert failures("headers: {X-Who: u1}", "ada") == [("header X-Who", "u1", "none")]


@pytest.mark.parametrize(
    ("expect", "left"),
    [("allow", ["rule all without its headers"]), ("{headers: {X-Who: u1}}", [])],
)
def test_a_rule_without_its_headers_is_a_mutant(expect: str, left: list[str]) -> None:
    text = f"{HEAD}cases: [{{as: {{id: u1}}, request: GET /a, expect: {expect}}}]"
    cases = read_cases("tests.yaml", text, WORLD)
    results = run_cases(cases, WORLD, status)  # type: ignore[arg-type]
    survivors = mutation_report(results, WORLD, status).survivors
    told = [f"{one.of} {one.name} {one.how}" for one in survivors]
    assert [one for one in told if "headers" in one] == left


def test_a_header_that_nothing_writes_is_a_typo() -> None:
    text = f"{HEAD}cases:\n  - {{request: GET /a, expect: {{headers: {{X-Whom: u1}}}}}}"
    (problem,) = read_cases("tests.yaml", text, WORLD)
    assert str(problem) == (
        "tests.yaml:4:42: nothing writes the header `X-Whom` here; did you mean `X-Who`?"
    )
