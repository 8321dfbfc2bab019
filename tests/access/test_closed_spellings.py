"""What a route refuses by an answer of its own, no backend is asked in another spelling."""

from __future__ import annotations

import pytest

from gateway.model import Reason
from tests.access.worlds import decide, snapshot

CLOSED = """
    - {id: rest, match: {prefix: /, except_reserved: true}, auth: public, upstream: api,
       allow_encoded_slash: true}
    - {id: metrics, match: {path: /metrics}, auth: public, direct_response: {status: 404}}
    - {id: inner, match: {path: "/inner/{rest:path}"}, auth: public, direct_response: {status: 403}}
    - {id: site, match: {path: "/site/{x}", host: site.example}, auth: public,
       direct_response: {status: 403}}
    - {id: broken, match: {path: /broken}, auth: public, direct_response: {status: 400}}
    - {id: written, match: {path: /written, methods: [PUT]}, auth: public,
       direct_response: {status: 403}}
    - {id: read, match: {path: /written, methods: [GET]}, auth: public, upstream: api}
    - {id: robots, match: {path: /robots.txt}, auth: public, direct_response: {body: none}}
    - {id: gone, match: {prefix: /gone}, auth: public, direct_response: {status: 410}}
    - {id: docs, match: {path: /docs}, auth: public, redirect: {to: /docs/}}
    - {id: moved, match: {prefix: /moved}, auth: public, upstream: api,
       rewrite: {strip_prefix: /moved}}
"""


@pytest.mark.parametrize(
    "request_",
    ["GET /METRICS", "GET /metrics/", "POST /index.php/metrics", "GET /metrics.json",
     "GET /Inner/x", "GET /inner%2Fx", "GET /Broken", "PUT /WRITTEN", "POST /written/",
     "GET http://site.example/site%2Fx"],
)  # fmt: skip
def test_what_a_route_refuses_itself_no_backend_is_asked_in_another_spelling(
    request_: str,
) -> None:
    decision = decide(snapshot(CLOSED), request_)
    assert (decision.allowed, decision.reason) == (False, Reason.AMBIGUOUS_PATH), decision.route


@pytest.mark.parametrize(
    ("request_", "route"),
    [("GET /ROBOTS.TXT", "rest"), ("GET /docs/", "rest"), ("GET /DOCS", "rest"),
     ("GET /Written", "rest"), ("GET /inner", "rest"), ("GET /metric", "rest"),
     ("GET /gone/A/", "gone"), ("GET http://other.example/site%2Fx", "rest"),
     ("GET /moved/metrics", "moved")],
)  # fmt: skip
def test_what_a_route_answers_otherwise_is_not_closed(request_: str, route: str) -> None:
    decision = decide(snapshot(CLOSED), request_)
    assert decision.route is not None
    assert (decision.route.id, decision.allowed) == (route, True), decision.reason


def test_what_refuses_everything_else_closes_nothing_that_has_a_route() -> None:
    world = snapshot(
        """
        - {id: app, match: {path: "/app/{rest:path}"}, auth: public, upstream: api}
        - {id: else, match: {prefix: /, except_reserved: true}, auth: public,
           direct_response: {status: 404}}
        """
    )
    for path in ("/app/index.html", "/app/a.json", "/app/A/"):
        assert decide(world, f"GET {path}").allowed
