"""`direct_response` and `redirect`, as they are read from `routes.yaml`."""

from __future__ import annotations

import pytest

from gateway.access.definitions import DirectResponse
from gateway.access.explanation import explain
from gateway.access.routing.routes import Route
from gateway.access.simulation import SimulatedRequest, simulate
from gateway.model import Reason
from gateway.review.rendering import as_data, as_text, status_of
from tests.access.worlds import decide, problems, snapshot, who

ROUTE = """
- id: a
  match: {path: /a}
  auth: public
"""


def route(*lines: str) -> Route:
    found = snapshot(ROUTE + "".join(f"  {line}\n" for line in lines)).routes.get("a")
    assert found is not None
    return found


def wrong(*lines: str) -> list[str]:
    return problems(ROUTE + "".join(f"  {line}\n" for line in lines))


def test_an_answer_is_read() -> None:
    found = route(
        'direct_response: {status: 503, headers: {Retry-After: "60"}, body: "Grüße", content_type: text/html}'
    )
    assert found.upstream is None
    assert found.direct_response == DirectResponse(
        503, (("Content-Type", "text/html"), ("Retry-After", "60")), "Grüße".encode()
    )


def test_an_answer_says_200_and_plain_text_where_nothing_else_is_written() -> None:
    text = (("Content-Type", "text/plain; charset=utf-8"),)
    assert route("direct_response: {body: hello}").direct_response == DirectResponse(
        200, text, b"hello"
    )
    assert route("direct_response: {status: 204}").direct_response == DirectResponse(204)


def test_an_answer_of_the_route_goes_over_the_upstream_of_the_defaults() -> None:
    world = snapshot(
        """
        version: 1
        upstreams: {api: {targets: [http://127.0.0.1:9001]}}
        defaults: {auth: public, upstream: api, response: {set_headers: {X-A: a}}}
        routes:
          - {id: a, match: {path: /a}, direct_response: {status: 410}}
        """
    )
    found = world.routes.get("a")
    assert found is not None
    assert (found.upstream, found.response) == (None, None)


def test_a_redirect_is_read() -> None:
    found = route("redirect: {to: https://example.com/new}").direct_response
    assert found is not None
    assert (found.status, found.leads_to("q=1")) == (302, "https://example.com/new")


@pytest.mark.parametrize(
    ("to", "query", "leads"),
    [
        ("/b", "", "/b"),
        ("/b", "q=//evil.example", "/b?q=//evil.example"),
        ("/b?x=1", "q=1", "/b?x=1&q=1"),
        ("https://example.com", "q", "https://example.com?q"),
    ],
)
def test_a_kept_query_stands_behind_the_place(to: str, query: str, leads: str) -> None:
    found = route(f'redirect: {{to: "{to}", keep_query: true}}').direct_response
    assert found is not None
    assert found.leads_to(query) == leads


@pytest.mark.parametrize(
    "to",
    [
        "//evil.example", r"/\\evil.example", r"\\\\evil.example", "javascript:alert(1)", "evil.example",
        "ftp://example.com/", "https://", "https://good.example@evil.example/", "https:///x",
        "/a/../b", "/a//b", "/ä", "/a b", r"/a\r\nSet-Cookie: a=b", r"/a\tb", "/a%0d%0aX: y",
        "https://example.com//x", "https://example.com:99999/", "/a;b", "data:,x", "?a", "#a",
    ],
)  # fmt: skip
def test_a_place_that_two_could_read_in_two_ways_is_a_problem(to: str) -> None:
    said = wrong(f'redirect: {{to: "{to}"}}')
    assert any("is no " in one or "has no path" in one for one in said), said


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (["direct_response: {status: 199}"], "200 or more"),
        (["direct_response: {status: 600}"], "200 to 599"),
        (["direct_response: {status: 304}"], "200 to 599"),
        (["direct_response: {status: 301}"], "write `redirect:"),
        (["direct_response: {status: 204, body: a}"], "no body"),
        (["direct_response: {content_type: text/html}"], "needs the `body:`"),
        (["direct_response: {body: a, content_type: html}"], "no media type"),
        ([r'direct_response: {body: a, content_type: "text/html\r\nX: y"}'], "no media type"),
        (["direct_response: {headers: {Content-Type: text/html}}"], "content_type"),
        (['direct_response: {headers: {Set-Cookie: "a=b"}}'], "cannot be changed"),
        (['direct_response: {headers: {Content-Length: "1"}}'], "cannot be changed"),
        (["direct_response: {headers: {Access-Control-Allow-Origin: a}}"], "cors"),
        ([r'direct_response: {headers: {X-A: "a\nb"}}'], "one line"),
        (["direct_response: {text: a}"], "unknown key `text`"),
        (["redirect: {status: 301}"], "no `to:"),
        (["redirect: {to: /b, status: 300}"], "one of 301"),
        (["redirect: {to: /a}"], "lead back for ever"),
        (["redirect: {to: '/b#c', keep_query: true}"], "no `#`"),
        (["redirect: {to: /b}", "direct_response: {}"], "`direct_response` or `redirect`"),
        (["direct_response: {}", "upstream: api"], "`upstream` says nothing"),
        (["direct_response: {}", "rewrite: {strip_prefix: /a}"], "`rewrite` says nothing"),
        (["direct_response: {}", "request: {remove_headers: X-A}"], "`request` says nothing"),
        (["direct_response: {}", "max_body: 1MiB"], "`max_body` says nothing"),
    ],
)
def test_what_cannot_be_meant_is_a_problem_with_its_place(lines: list[str], says: str) -> None:
    said = wrong(*lines)
    assert any(says in one and one.startswith("routes.yaml:") for one in said), said


def test_a_body_has_its_bound() -> None:
    assert (
        len(
            (
                route(f"direct_response: {{body: {'a' * 65_536}}}").direct_response
                or DirectResponse(0)
            ).body
        )
        == 65_536
    )
    assert any("64 KiB" in one for one in wrong(f"direct_response: {{body: {'ä' * 32_769}}}"))


def test_nobody_is_answered_whom_the_policy_does_not_let_pass() -> None:
    world = snapshot(
        "- {id: a, match: {path: /a}, policy: signed-in, direct_response: {body: hello}}"
    )
    assert decide(world, "GET /a").reason == Reason.NO_CREDENTIAL
    assert decide(world, "GET /a", who("u1")).allowed


def test_explain_shows_what_the_route_answers() -> None:
    world = snapshot(ROUTE + "  redirect: {to: /b, status: 308, keep_query: true}\n")
    question = SimulatedRequest("GET", "/a", Reason.NO_CREDENTIAL)
    answer = simulate(question, world)
    assert answer.call is not None
    told = explain(answer.decision, answer.call, world, question.clock.now)
    status = status_of(answer.decision, lambda *_: 0)
    assert status == 308
    lines = [text for text, _ in as_text(answer.decision, status, told)]
    assert "answer  308 to /b and the query, from the route itself" in lines
    found = as_data(answer.decision, status, told)
    assert (found["upstream"], found["target"]) == (None, None)
    assert found["answer"]["location"] == "/b"
