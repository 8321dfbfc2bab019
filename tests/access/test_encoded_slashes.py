"""`allow_encoded_slash`: a slash in a name passes, and no backend that splits at it serves what was
not judged."""

from __future__ import annotations

import pytest

from gateway.model import Reason
from tests.access.worlds import decide, snapshot, who

WORLD = snapshot(
    """
    - id: docs
      match: {path: "/docs/{name}"}
      allow_encoded_slash: true
      auth: public
      upstream: api
    - {id: private, match: {path: "/docs/private/{name}"}, policy: nobody, upstream: api}
    - {id: open, match: {path: "/docs/open/{name}"}, auth: public, upstream: api}
    - id: written
      match: {path: "/docs/written/{name}", methods: [PUT]}
      policy: nobody
      upstream: api
    - {id: elsewhere, match: {path: "/docs/elsewhere/{name}"}, policy: nobody, upstream: other}
    - id: own
      match: {path: "/own/{owner}/{rest:path}"}
      allow_encoded_slash: true
      policy: own
      upstream: api
    - id: mixed
      match: {path: "/mixed/{rest:path}"}
      paths: files
      allow_encoded_slash: true
      auth: public
      upstream: api
    - {id: mixed.private, match: {path: "/mixed/private/{name}"}, policy: nobody, upstream: api}
    - id: moved
      match: {path: "/moved/{name}"}
      allow_encoded_slash: true
      auth: public
      upstream: api
      rewrite: {path: "/docs/{name}"}
    - id: short
      match: {path: "/teams/{team}"}
      allow_encoded_slash: true
      policy: team
      upstream: api
    - {id: long, match: {path: "/teams/{team}/{member}"}, policy: team, upstream: api}
    """,
    "policy: nobody\nrules: [{id: none, deny: ['*']}]",
    """
    policy: own
    rules:
      - {id: all, allow: ['*']}
      - {id: not-bens, deny: ['*'], when: request.params.owner == 'ben'}
    """,
    """
    policy: team
    rules:
      - {id: all, allow: ['*']}
      - {id: not-root, deny: ['*'], when: request.params.team == 'root'}
    """,
)
ANN = who("ann")


@pytest.mark.parametrize(
    "path",
    ["/docs/a%2Fb", "/docs/open%2Fx", "/docs/elsewhere%2Fx", "/docs/private", "/own/ann%2Fx/y",
     "/mixed/a%2Fb", "/moved/a%2Fb", "/teams/a%2Fb", "/docs/private%2Fx%2Fy"],
)  # fmt: skip
def test_a_name_with_a_slash_passes_and_its_bytes_are_sent(path: str) -> None:
    decision = decide(WORLD, f"GET {path}", ANN)
    assert decision.allowed, decision.reason
    assert decision.target == path.replace("/moved/", "/docs/")


@pytest.mark.parametrize(
    "path",
    ["/docs/private%2Fx", "/docs/private%2fx", "/docs/%70rivate%2Fx", "/docs%2Fprivate/x",
     "/mixed/private%2Fx", "/mixed/private%2Fx;y", "/moved/private%2Fx", "/docs/written%2Fx"],
)  # fmt: skip
def test_what_a_backend_may_take_for_another_routes_path_is_refused(path: str) -> None:
    method = "PUT" if "written" in path else "GET"
    decision = decide(WORLD, f"{method} {path}", ANN)
    assert (decision.allowed, decision.reason) == (False, Reason.AMBIGUOUS_PATH)


@pytest.mark.parametrize("path", ["/own/ben%2Fx/y", "/teams/root%2Fx"])
def test_the_policy_is_asked_about_the_path_that_a_backend_may_read(path: str) -> None:
    decision = decide(WORLD, f"GET {path}", ANN)
    assert (decision.allowed, decision.read_as) == (False, path.replace("%2F", "/"))
