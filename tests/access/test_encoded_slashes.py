"""`allow_encoded_slash`: a slash in a name passes, and no backend that splits at it serves what was
not judged."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.model import Principal, Reason
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


TAKEN = replace(
    snapshot(
        """
        version: 1
        issuers:
          company: {issuer: "https://id.example.com", audience: api}
        upstreams:
          api: {targets: [http://127.0.0.1:9001]}
        defaults: {policy: open, upstream: api}
        routes:
          - {id: docs, match: {path: "/docs/{name}"}, allow_encoded_slash: true}
          - {id: partners, match: {path: "/docs/partners/{name}"}, issuers: [company]}
          - {id: shared, match: {path: "/docs/shared/{name}"}, issuers: [own, company]}
          - id: tools
            match: {path: "/docs/tools/{name}"}
            issuers: [own, company]
            resource_server: {path: /docs/tools, scopes: [call]}
          - id: guests
            match: {path: "/docs/{name}/guests"}
            auth: optional
            policy: open
            allow_encoded_slash: true
          - {id: members, match: {path: "/docs/members/{name}/guests"}}
          - id: tools.names
            match: {path: "/tools/{name}"}
            issuers: [company]
            resource_server: {path: /tools, scopes: [call]}
            allow_encoded_slash: true
          - id: tools.lists
            match: {path: "/tools/lists/{name}"}
            issuers: [company]
            resource_server: {path: /tools, scopes: [call]}
          - id: tools.written
            match: {path: "/tools/written/{name}"}
            issuers: [company]
            resource_server: {path: /tools, scopes: [call, write]}
          - id: tools.admin
            match: {path: "/tools/admin/{name}"}
            issuers: [company]
            resource_server: {path: /tools/admin, scopes: [call]}
          - id: host
            match: {host: one.example.com, prefix: /app}
            allow_encoded_slash: true
          - {id: host.other, match: {host: two.example.com, prefix: /app}, issuers: [company]}
          - {id: moved, match: {prefix: /moved}, rewrite: {strip_prefix: /moved}}
        """,
        "policy: open\nrules: [{id: all, allow: ['*']}]",
    ),
    public_url="https://gateway.example.com",
)
"""One policy for all: it does not tell these routes apart."""
BOB = replace(
    who("company:bob"),
    issuer="company",
    audience=("api", "https://gateway.example.com/tools"),
    granted_scopes=("call",),
)


@pytest.mark.parametrize(
    ("path", "caller"),
    [("/docs/shared%2Fx", ANN), ("/docs/a%2Fb", ANN), ("/docs/a%2Fb/guests", ANN),
     ("/tools/lists%2Fx", BOB), ("/moved/docs/shared/x", ANN), ("/moved/docs/x", ANN)],
)  # fmt: skip
def test_a_path_of_a_route_that_takes_the_same_callers_passes(path: str, caller: Principal) -> None:
    decision = decide(TAKEN, f"GET {path}", caller)
    assert decision.allowed, decision.reason


@pytest.mark.parametrize(
    ("path", "caller"),
    [("/docs/partners%2Fx", ANN), ("/docs/tools%2Fx", ANN), ("/docs/members%2Fx/guests", None),
     ("/tools/written%2Fx", BOB), ("/tools/admin%2Fx", BOB),
     ("/moved/docs/partners/x", ANN), ("/moved/docs/tools/x", ANN)],
)  # fmt: skip
def test_no_other_issuer_resource_or_sign_in_is_walked_around(
    path: str, caller: Principal | None
) -> None:
    decision = decide(TAKEN, f"GET {path}", caller or Reason.NO_CREDENTIAL)
    assert (decision.allowed, decision.reason) == (False, Reason.AMBIGUOUS_PATH)


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/t/x%2Fy", Reason.AMBIGUOUS_PATH),
        ("/b/x%2Fy", Reason.NO_RULE),
        ("/t/x/y", Reason.NO_RULE),
        ("/t/z%2Fy", Reason.RULE_ALLOWED),
    ],
)
def test_no_route_that_reads_no_body_leads_to_one_whose_policy_does(
    path: str, reason: Reason
) -> None:
    """Asked without the body, a rule that denies by one of its fields finds none."""
    world = snapshot(
        """
        - {id: read, match: {path: "/t/x/{y}"}, policy: hr, resource: {team: "{body.team}"},
           upstream: api}
        - {id: unread, match: {path: "/t/{name}"}, policy: hr, allow_encoded_slash: true,
           upstream: api}
        - {id: all, match: {path: "/b/{name}"}, policy: hr, allow_encoded_slash: true,
           resource: {team: "{body.team}"}, upstream: api}
        """,
        """
        policy: hr
        rules:
          - {id: all, allow: ['*']}
          - {id: not-hr, deny: ['*'], when: "has(resource.team) && resource.team == 'hr'"}
        """,
    )
    assert decide(world, f"POST {path}", ANN, body={"team": "hr"}).reason == reason


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/files/a%2Fann%5Cx", Reason.RULE_ALLOWED),
        # As /files/a/ben\x it is no route's, and as /files/a/ben/x it is ben's.
        ("/files/a%2Fben%5Cx", Reason.NO_RULE),
    ],
)
def test_a_reading_that_no_route_takes_hides_none_of_the_others(path: str, reason: Reason) -> None:
    world = snapshot(
        """
        - {id: files, match: {path: "/files/{rest:path}"}, policy: own, paths: files,
           allow_encoded_slash: true, upstream: api}
        - {id: write, match: {path: "/files/a/{name}", methods: [PUT]}, policy: own, upstream: api}
        - {id: owned, match: {path: "/files/a/{owner}/{name}"}, policy: own,
           resource: {owner: "{owner}"}, upstream: api}
        """,
        """
        policy: own
        rules:
          - {id: all, allow: ['*']}
          - {id: others, deny: ['*'], when: has(resource.owner) && resource.owner != user.id}
        """,
    )
    assert decide(world, f"GET {path}", ANN).reason is reason


def test_the_query_is_no_part_of_where_a_rewrite_leads() -> None:
    decision = decide(WORLD, "GET /moved/a?next=/../docs//private/x", ANN)
    assert decision.allowed
    assert decision.target == "/docs/a?next=/../docs//private/x"


def test_what_a_route_serves_at_its_own_host_is_its_own() -> None:
    assert decide(TAKEN, "GET https://one.example.com/app/a%2Fb", ANN).allowed


TENANTS = snapshot(
    """
    version: 1
    tenants: {roles: [owner, member]}
    upstreams: {api: {targets: [http://127.0.0.1:9001]}}
    routes:
      - id: docs
        match: {path: "/api/{version}/{org}/{rest:path}"}
        tenant: "{org}"
        allow_encoded_slash: true
        paths: files
        policy: members
        upstream: api
      - id: export
        match: {path: "/export/{name}"}
        allow_encoded_slash: true
        policy: members
        upstream: api
      - {id: exports, match: {path: "/export/{org}/{name}"}, tenant: "{org}", policy: members,
         upstream: api}
    """,
    """
    policy: members
    rules: [{id: members, allow: ['*'], when: user.tenant != null}]
    """,
)


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1%2Fbens/anns/x",
        "/api/v1%5Cbens/anns/x",
        "/api/v1%255Cbens/anns/x",
        "/export/bens%2Fx",
    ],
)
def test_a_caller_acts_for_no_tenant_of_theirs_in_a_path_that_names_another(path: str) -> None:
    ann = who("ann", claims={"tenants": {"anns": "owner"}, "tenant": "anns"})
    assert decide(TENANTS, "GET /api/v1/anns/x", ann).allowed
    decision = decide(TENANTS, f"GET {path}", ann)
    assert (decision.allowed, decision.reason) == (False, Reason.NO_RULE)
    assert "/bens/" in decision.read_as
