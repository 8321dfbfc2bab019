"""Routes beside which paths are spelled otherwise, and who asks."""

from __future__ import annotations

from tests.access.worlds import snapshot, who

ANN = who("ann")
NOBODY = "policy: nobody\nrules: [{id: none, deny: ['*']}]"
WORLD = snapshot(
    """
    - {id: rest, match: {path: "/{rest:path}", except_reserved: true}, policy: signed-in,
       upstream: api}
    - {id: start, match: {path: /}, auth: public, upstream: api}
    - {id: admin, match: {prefix: /admin}, policy: nobody, upstream: api}
    - {id: open, match: {path: /admin/open}, auth: public, upstream: api}
    - {id: me, match: {path: /me}, policy: nobody, upstream: api}
    - {id: slash, match: {path: /slash/}, policy: nobody, upstream: api}
    - {id: reports, match: {path: /Reports}, policy: nobody, upstream: api}
    - {id: written, match: {path: /written, methods: [PUT]}, policy: nobody, upstream: api}
    - {id: elsewhere, match: {path: /elsewhere}, policy: nobody, upstream: other}
    - {id: book, match: {path: "/books/{id:int}/pages"}, policy: nobody, upstream: api}
    - {id: item, match: {path: "/items/{id:uuid}/pages"}, policy: nobody, upstream: api}
    - {id: both, match: {path: /Both}, auth: public, upstream: api}
    - {id: both.lower, match: {path: /both}, policy: nobody, upstream: api}
    - {id: site, match: {path: "/{rest:path}", host: site.example, except_reserved: true},
       auth: public, upstream: api}
    - {id: script, match: {prefix: /old.php}, policy: signed-in, upstream: api}
    - {id: files, match: {prefix: /files}, paths: files, policy: signed-in, upstream: api}
    - {id: files.own, match: {prefix: /files/own}, policy: nobody, upstream: api}
    """,
    NOBODY,
)
FOLDERS = """
    - {id: rest, match: {path: "/{rest:path}", except_reserved: true}, policy: signed-in,
       upstream: api}
    - {id: start, match: {path: /}, policy: nobody, upstream: api}
    - {id: admin, match: {path: /Admin}, policy: nobody, upstream: api}
    - {id: desk, match: {path: /desk/}, policy: nobody, upstream: api}
    - {id: shown, match: {path: /desk/index.html}, auth: public, upstream: api}
    - {id: user, match: {path: "/users/{id:int}"}, policy: nobody, upstream: api}
    - {id: manual, match: {path: "/manual/{rest:path}"}, auth: public, upstream: api}
    - {id: old, match: {path: "/guides/old/{rest:path}"}, auth: public, upstream: api}
    - {id: board, match: {prefix: /board}, policy: nobody, upstream: api}
    - {id: board.page, match: {path: "/board/{page}"}, auth: public, upstream: api}
    - {id: sheet, match: {path: "/sheets/{name}"}, auth: public, upstream: api}
    - {id: moved, match: {prefix: /moved}, policy: signed-in, upstream: api,
       rewrite: {strip_prefix: /moved}}
"""
TENANTS = """
    version: 1
    tenants: {roles: [owner, member]}
    upstreams: {api: {targets: [http://127.0.0.1:9001]}}
    defaults: {policy: members, upstream: api}
    routes:
      - {id: org, match: {path: "/api/{org}/{rest:path}"}, tenant: "{org}"}
      - {id: Org, match: {path: "/Api/{org}/{rest:path}"}, tenant: "{org}"}
      - {id: order, match: {path: "/orders/{owner}"}, resource: {owner: "{owner}"}}
      - {id: moved, match: {path: "/v1/{rest:path}"}, rewrite: {strip_prefix: /v1}}
      - {id: again, match: {path: "/v2/{org}/{rest:path}"}, tenant: "{org}",
         rewrite: {path: "/api/{org}/{rest}"}}
      - {id: shelf, match: {path: "/shelf/{name}"}, allow_encoded_slash: true,
         rewrite: {path: "/{name}"}}
      - {id: rest, match: {prefix: /, except_reserved: true}, allow_encoded_slash: true}
"""
MEMBERS = """
    policy: members
    rules:
      - {id: in, allow: ['*'], when: user.tenant != null}
      - {id: others, deny: ['*'], when: has(resource.owner) && resource.owner != user.id}
"""
