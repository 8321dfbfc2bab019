"""What the policy is told of a path is the same in each spelling a backend may take for it."""

from __future__ import annotations

import pytest

from gateway.model import Reason
from tests.access.spelling_worlds import MEMBERS, TENANTS
from tests.access.worlds import decide, snapshot, who


@pytest.mark.parametrize(
    ("path", "reason"),
    [("/api/bens/x", Reason.NO_RULE), ("/API/bens/x", Reason.AMBIGUOUS_PATH),
     ("/index.php/api/bens/x", Reason.AMBIGUOUS_PATH), ("/v1/api/bens/x", Reason.AMBIGUOUS_PATH),
     ("/v1/API/bens/x", Reason.AMBIGUOUS_PATH), ("/api%2Fbens/x", Reason.NO_RULE),
     ("/Api%2Fbens/x", Reason.NO_RULE), ("/API%2Fbens/x", Reason.AMBIGUOUS_PATH), ("/v2/bens/x", Reason.NO_RULE),
     ("/Orders/ben", Reason.AMBIGUOUS_PATH), ("/v1/orders/ben", Reason.AMBIGUOUS_PATH),
     ("/orders/ben.json/", Reason.AMBIGUOUS_PATH), ("/shelf/api%2Fbens%2Fx", Reason.AMBIGUOUS_PATH)],
)  # fmt: skip
def test_the_policy_is_told_of_the_tenant_and_the_resource_in_every_spelling(
    path: str, reason: Reason
) -> None:
    ann = who("ann", claims={"tenants": {"anns": "owner"}, "tenant": "anns"})
    world = snapshot(TENANTS, MEMBERS)
    for allowed in (
        "/api/anns/x",
        "/v2/anns/x",
        "/v1/x",
        "/x",
        "/orders/ann",
        "/api%2Fanns/x",
        "/Api%2Fanns/x",
    ):
        assert decide(world, f"GET {allowed}", ann).allowed
    decision = decide(world, f"GET {path}", ann)
    assert (decision.allowed, decision.reason) == (False, reason)


OWNED = """
    version: 1
    upstreams: {api: {targets: [http://127.0.0.1:9001]}}
    defaults: {policy: members, upstream: api}
    routes:
      - {id: order, match: {path: "/orders/{owner}"}, resource: {owner: "{owner}"}}
      - {id: named, match: {path: "/{kind}/{id}", except_reserved: true},
         resource: RESOURCE}
"""


@pytest.mark.parametrize(
    ("resource", "whose", "reason"),
    [
        ('{owner: "{id}"}', "ann", Reason.RULE_ALLOWED),
        ('{owner: "{id}"}', "ben", Reason.NO_RULE),
        ('{owner: "{id}", kind: "{kind}"}', "ann", Reason.RULE_ALLOWED),
        # The rule about owners would pass what it is told no owner of.
        ('{kind: "{kind}"}', "ann", Reason.AMBIGUOUS_PATH),
        ('{kind: "{kind}"}', "ben", Reason.AMBIGUOUS_PATH),
    ],
)
def test_a_route_that_tells_of_the_same_fields_takes_every_spelling(
    resource: str, whose: str, reason: Reason
) -> None:
    ann = who("ann", claims={"tenants": {"anns": "owner"}, "tenant": "anns"})
    world = snapshot(OWNED.replace("RESOURCE", resource), MEMBERS)
    assert decide(world, f"GET /Orders/{whose}", ann).reason is reason


NAMED = """
    version: 1
    tenants: {roles: [owner, member]}
    upstreams: {api: {targets: [http://127.0.0.1:9001]}}
    defaults: {policy: members, upstream: api}
    routes:
      - {id: org, match: {path: "/api/{org}/{rest:path}"}, tenant: "{org}"}
      - {id: page, match: {path: "/{org}/{rest:path}", except_reserved: true}, tenant: "{org}"}
      - {id: old, match: {path: "/old/{first}/{rest:path}"}, tenant: "{first}"}
      - {id: shelf, match: {path: "/shelf/{kind}/{owner}"},
         resource: {owner: "{owner}", kind: "a {kind}"}}
      - {id: three, match: {path: "/{a}/{b}/{c}", except_reserved: true},
         resource: {owner: "{c}", kind: "KIND"}}
      - {id: moved, match: {path: "/t/{org}/{rest:path}"}, tenant: "{org}",
         rewrite: {path: "/{rest}"}}
      - {id: renamed, match: {path: "/r/{a}/{b}/{rest:path}"}, tenant: "{b}",
         rewrite: {path: "/{a}/{b}/{rest}"}}
"""


@pytest.mark.parametrize(
    ("path", "kind", "reason"),
    [
        ("/api/anns/x", "{b}", Reason.RULE_ALLOWED),
        ("/anns/x", "{b}", Reason.RULE_ALLOWED),
        ("/Anns/x", "{b}", Reason.NO_RULE),
        # Whose tenant is called so acts for that one, and a backend would serve another's.
        ("/API/bens/x/y", "{b}", Reason.AMBIGUOUS_PATH),
        ("/API/anns/x/y", "{b}", Reason.AMBIGUOUS_PATH),
        ("/index.php/api/bens/x", "{b}", Reason.AMBIGUOUS_PATH),
        ("/OLD/bens/x/y", "{b}", Reason.AMBIGUOUS_PATH),
        ("/SHELF/x/ann", "a {b}", Reason.RULE_ALLOWED),
        ("/SHELF/x/ben", "a {b}", Reason.NO_RULE),
        ("/SHELF/x/ann", "{b}", Reason.AMBIGUOUS_PATH),
        ("/SHELF/x/ann", "a {a}", Reason.AMBIGUOUS_PATH),
        ("/SHELF/x/ann", "b {b}", Reason.AMBIGUOUS_PATH),
        ("/SHELF/x/ann", "{query.kind}", Reason.AMBIGUOUS_PATH),
        ("/t/anns/api/anns/x/y", "{b}", Reason.RULE_ALLOWED),
        ("/t/anns/api/bens/x/y", "{b}", Reason.AMBIGUOUS_PATH),
        ("/t/anns/API/bens/x/y", "{b}", Reason.AMBIGUOUS_PATH),
        ("/t/anns/bens/x", "{b}", Reason.AMBIGUOUS_PATH),
        ("/r/api/anns/x/y", "{b}", Reason.RULE_ALLOWED),
        ("/r/api/bens/x/y", "{b}", Reason.NO_RULE),
        ("/r/anns/api/x/y", "{b}", Reason.NO_RULE),
    ],
)
def test_the_policy_is_told_the_same_values_of_every_spelling(
    path: str, kind: str, reason: Reason
) -> None:
    tenants = dict.fromkeys(("anns", "API", "OLD", "index.php"), "owner")
    ann = who("ann", claims={"tenants": tenants, "tenant": "anns"})
    world = snapshot(NAMED.replace("KIND", kind), MEMBERS)
    assert decide(world, f"GET {path}", ann).reason == reason


METHODS = """
    version: 1
    tenants: {roles: [owner, member]}
    upstreams: {api: {targets: [http://127.0.0.1:9001]}}
    defaults: {policy: members, upstream: api}
    routes:
      - {id: write, match: {path: "/api/{org}/{rest:path}", methods: [PUT]}, tenant: "{org}"}
      - {id: read, match: {path: "/api/{org}/{rest:path}", methods: [GET]}}
      - {id: deep, match: {path: "/{kind}/{name}/{org}/{rest:path}", except_reserved: true},
         tenant: "{org}"}
      - {id: moved, match: {path: "/t/{org}/{rest:path}"}, tenant: "{org}",
         rewrite: {path: "/{rest}"}}
"""


@pytest.mark.parametrize(
    ("path", "passes"),
    [
        ("/API/bens/anns/x", False),
        ("/API/anns/anns/x", True),
        ("/t/anns/api/bens/x", False),
        ("/t/anns/api/anns/x", True),
        # No route takes it as it stands.
        ("/t/anns/API/bens/x", False),
        ("/t/anns/API/anns/x", True),
    ],
)
def test_the_routes_of_the_method_say_what_the_policy_is_told(path: str, passes: bool) -> None:
    ann = who("ann", claims={"tenants": {"anns": "owner"}, "tenant": "anns"})
    world = snapshot(METHODS, MEMBERS)
    assert decide(world, f"GET {path}", ann).allowed
    # A backend may take any other method for either.
    for method in ("PUT", "POST"):
        decision = decide(world, f"{method} {path}", ann)
        assert decision.reason is (Reason.RULE_ALLOWED if passes else Reason.AMBIGUOUS_PATH)


RESTS = """
    version: 1
    upstreams: {api: {targets: [http://127.0.0.1:9001]}}
    defaults: {policy: members, upstream: api}
    routes:
      - {id: file, match: {path: "/files/{rest:path}"}, resource: {file: "{rest}"}}
      - {id: other, match: {path: "/{kind}/OTHER", except_reserved: true},
         resource: {file: "{FILE}"}}
      - {id: moved, match: {path: "/moved/{name}"}, resource: {file: "{name}"},
         allow_encoded_slash: true, rewrite: {path: "/files/{name}"}}
"""


@pytest.mark.parametrize(
    ("other", "file", "path", "reason"),
    [
        ("{rest:path}", "rest", "/FILES/a/b", Reason.RULE_ALLOWED),
        ("{name}/{rest:path}", "name", "/FILES/a/b", Reason.AMBIGUOUS_PATH),
        ("{name}/{rest:path}", "rest", "/FILES/a/b", Reason.AMBIGUOUS_PATH),
        ("{name}", "name", "/FILES/a", Reason.RULE_ALLOWED),
        # The rest of `/files/a/b` is what the name in `/moved/a%2Fb` is decoded.
        ("{name}", "name", "/moved/a%2Fb", Reason.RULE_ALLOWED),
    ],
)
def test_the_rest_of_a_path_is_told_as_a_whole(
    other: str, file: str, path: str, reason: Reason
) -> None:
    ann = who("ann", claims={"tenants": {"anns": "owner"}, "tenant": "anns"})
    world = snapshot(RESTS.replace("OTHER", other).replace("FILE", file), MEMBERS)
    assert decide(world, f"GET {path}", ann).reason is reason


PARAMETERS = """
    version: 1
    tenants: {roles: [owner, member]}
    upstreams: {api: {targets: [http://127.0.0.1:9001]}}
    defaults: {policy: site, upstream: api}
    limits: {tries: {key: request.params.name, rate: 5/1h}}
    routes:
      - {id: org, match: {path: "/orgs/{org}/{rest:path}"}}
      - {id: admin, match: {path: /admin}}
      - {id: shelf, match: {path: /shelf}}
      - {id: login, match: {path: "/login/{name}"}, auth: public, limits: [tries]}
      - {id: old.login, match: {path: "/old/{name}/{rest:path}"}, auth: public, limits: [tries],
         rewrite: {path: "/{rest}"}}
      - {id: old, match: {path: "/legacy/{rest:path}"}, rewrite: {strip_prefix: /legacy}}
      - {id: same, match: {path: "/v1/orgs/{org}/{rest:path}"}, rewrite: {strip_prefix: /v1}}
      - {id: moved, match: {path: "/t/{org}/{rest:path}"}, rewrite: {path: "/{rest}"}}
      - {id: other, match: {path: "OTHER", except_reserved: true}}
"""
DENIES = """
    policy: site
    rules:
      - {id: in, allow: ['*'], when: user != null}
      - {id: others, deny: ['*'],
         when: has(request.params.org) && !(request.params.org in user.tenants)}
"""
ALLOWS = """
    policy: site
    rules:
      - {id: own, allow: ['*'],
         when: has(request.params.org) && request.params.org in user.tenants}
      - {id: staff, allow: ['*'], when: has_role('staff')}
"""
RESOURCES = """
    policy: site
    rules: [{id: in, allow: ['*'], when: user != null}]
"""


@pytest.mark.parametrize(
    ("policy", "other", "path", "reason"),
    [
        (DENIES, "/{rest:path}", "/orgs/mine/x", Reason.RULE_ALLOWED),
        (DENIES, "/{rest:path}", "/orgs/theirs/x", Reason.NO_RULE),
        (DENIES, "/{rest:path}", "/Orgs/theirs/x", Reason.AMBIGUOUS_PATH),
        (DENIES, "/{rest:path}", "/Orgs/mine/x", Reason.AMBIGUOUS_PATH),
        (DENIES, "/{rest:path}", "/index.php/orgs/theirs/x", Reason.AMBIGUOUS_PATH),
        (DENIES, "/{rest:path}", "/other/theirs/x", Reason.RULE_ALLOWED),
        # The same of the same parameter.
        (DENIES, "/{a}/{org}/{rest:path}", "/ORGS/mine/x", Reason.RULE_ALLOWED),
        (DENIES, "/{a}/{org}/{rest:path}", "/ORGS/theirs/x", Reason.NO_RULE),
        (DENIES, "/{rest:path}", "/legacy/page", Reason.RULE_ALLOWED),
        (DENIES, "/{rest:path}", "/legacy/orgs/theirs/x", Reason.AMBIGUOUS_PATH),
        (DENIES, "/{rest:path}", "/legacy/ORGS/theirs/x", Reason.AMBIGUOUS_PATH),
        (DENIES, "/{rest:path}", "/v1/orgs/mine/x", Reason.RULE_ALLOWED),
        (DENIES, "/{rest:path}", "/v1/orgs/theirs/x", Reason.NO_RULE),
        (ALLOWS, "/{org}/{rest:path}", "/ORGS/theirs/x", Reason.AMBIGUOUS_PATH),
        (ALLOWS, "/{org}/{rest:path}", "/t/mine/orgs/mine/x", Reason.RULE_ALLOWED),
        (ALLOWS, "/{org}/{rest:path}", "/t/mine/orgs/theirs/x", Reason.AMBIGUOUS_PATH),
        (ALLOWS, "/{org}/{rest:path}", "/t/mine/ORGS/theirs/x", Reason.AMBIGUOUS_PATH),
        # Whoever has a tenant of the name of a page that tells of none.
        (ALLOWS, "/{org}", "/admin", Reason.NO_RULE),
        (ALLOWS, "/{org}", "/ORGS", Reason.RULE_ALLOWED),
        (ALLOWS, "/{org}", "/ADMIN", Reason.AMBIGUOUS_PATH),
        (ALLOWS, "/{org}", "/ORGS.js", Reason.RULE_ALLOWED),
        (ALLOWS, "/{org}", "/admin.js", Reason.AMBIGUOUS_PATH),
        (ALLOWS, "/shelf/{org}", "/shelf/index.html", Reason.RULE_ALLOWED),
        # What no rule reads is as before.
        (RESOURCES, "/{rest:path}", "/Orgs/theirs/x", Reason.RULE_ALLOWED),
        (RESOURCES, "/{org}/{rest:path}", "/ORGS/theirs/x", Reason.RULE_ALLOWED),
        (RESOURCES, "/{rest:path}", "/legacy/orgs/theirs/x", Reason.RULE_ALLOWED),
        (RESOURCES, "/{org}", "/ADMIN", Reason.RULE_ALLOWED),
    ],
)
def test_the_rules_read_the_same_parameters_of_every_spelling(
    policy: str, other: str, path: str, reason: Reason
) -> None:
    names = ("mine", "ORGS", "ORGS.js", "ADMIN", "admin.js", "index.html")
    ann = who("ann", claims={"tenants": dict.fromkeys(names, "owner"), "tenant": "mine"})
    world = snapshot(PARAMETERS.replace("OTHER", other), policy)
    assert decide(world, f"GET {path}", ann).reason == reason


@pytest.mark.parametrize(
    ("path", "passes"),
    [
        ("/login/ann", True),
        ("/old/ann/login/ann", True),
        ("/old/x1/login/ann", False),
        ("/old/x1/LOGIN/ann", False),
        ("/old/LOGIN/login/ann", False),
    ],
)
def test_a_limit_counts_the_same_value_of_every_spelling(path: str, passes: bool) -> None:
    world = snapshot(PARAMETERS.replace("OTHER", "/{rest:path}"), RESOURCES)
    decision = decide(world, f"POST {path}")
    assert (decision.allowed, decision.reason) == (
        passes,
        Reason.ROUTE_PUBLIC if passes else Reason.AMBIGUOUS_PATH,
    )


@pytest.mark.parametrize(
    ("path", "passes"),
    [("/docs", True), ("/docs/intro", True), ("/docs/index.html", False), ("/docs/Index", False)],
)
def test_a_limit_that_counts_a_page_by_its_name_excepts_no_page_of_a_folder(
    path: str, passes: bool
) -> None:
    """Each of its names would have as many tries as the folder has."""
    world = snapshot(
        """
        version: 1
        upstreams: {api: {targets: [http://127.0.0.1:9001]}}
        limits:
          per: {key: "has(request.params.page) ? request.params.page : user.id", rate: 5/1m}
        routes:
          - {id: docs, match: {path: /docs}, policy: site, limits: [per], upstream: api}
          - {id: page, match: {path: "/docs/{page}"}, policy: site, limits: [per], upstream: api}
        """,
        RESOURCES,
    )
    decision = decide(world, f"GET {path}", who("ann"))
    assert decision.reason is (Reason.RULE_ALLOWED if passes else Reason.AMBIGUOUS_PATH)


@pytest.mark.parametrize(
    ("condition", "passes"),
    [
        ("has(resource.org) && resource.org in user.tenants", False),
        ("resource != {}", False),
        ("has(resource.org) && user.tenants[resource.org] == 'owner'", False),
        ("has(resource.kind) && resource.kind == 'x' || user != null", True),
        ("user != null", True),
    ],
)
def test_a_field_of_which_a_rule_reads_is_told_of_every_spelling(
    condition: str, passes: bool
) -> None:
    ann = who("ann", claims={"tenants": {"ADMIN": "owner"}, "tenant": "ADMIN"})
    world = snapshot(
        """
    - {id: admin, match: {path: /admin}, policy: site, upstream: api}
    - {id: page, match: {path: "/{org}", except_reserved: true}, policy: site, upstream: api,
       resource: {org: "{org}"}}
        """,
        f"policy: site\nrules: [{{id: in, allow: ['*'], when: \"{condition}\"}}]",
    )
    decision = decide(world, "GET /ADMIN", ann)
    assert decision.reason is (Reason.RULE_ALLOWED if passes else Reason.AMBIGUOUS_PATH)
