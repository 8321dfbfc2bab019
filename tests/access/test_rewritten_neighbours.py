"""A rewritten path is judged by the other spellings of a path, whatever the path itself leads to."""

from __future__ import annotations

import pytest

from gateway.model import Reason
from tests.access.worlds import decide, snapshot, who

ROUTES = """
    version: 1
    upstreams: {api: {targets: [http://127.0.0.1:9001]}}
    defaults: {policy: signed-in, upstream: api}
    routes:
      - {id: page, match: {path: /page, methods: [GET]}}
      - {id: page.write, match: {path: /Page, methods: [PUT]}, policy: nobody}
      - {id: desk, match: {prefix: /desk, methods: [GET]}}
      - {id: desk.write, match: {prefix: /Desk, methods: [PUT]}, policy: nobody}
      - {id: moved, match: {path: "/moved/{rest:path}"}, rewrite: {path: "/{rest}"}}
"""
NOBODY = """
    policy: nobody
    rules:
      - {id: closed, deny: ['*']}
"""


@pytest.mark.parametrize("path", ["/moved/page", "/moved/desk/run.php/x"])
def test_a_path_of_its_own_does_not_stand_for_its_other_spellings(path: str) -> None:
    decision = decide(snapshot(ROUTES, NOBODY), f"GET {path}", who("ann"))
    assert decision.reason is Reason.AMBIGUOUS_PATH
