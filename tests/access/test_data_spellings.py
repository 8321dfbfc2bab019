"""The data of a page, which a generator or a framework puts at an address of its own, is reached by
no route but that of the page."""

from __future__ import annotations

import pytest

from gateway.model import Reason
from tests.access.spelling_worlds import NOBODY
from tests.access.worlds import decide, snapshot

SITE = """
    - {id: rest, match: {path: "/{rest:path}", except_reserved: true}, auth: public, upstream: api}
    - {id: start, match: {path: /}, policy: nobody, upstream: api}
    - {id: admin, match: {path: /admin}, policy: nobody, upstream: api}
    - {id: user, match: {path: "/blog/{slug}/private"}, policy: nobody, upstream: api}
    - {id: based, match: {path: /base/admin}, policy: nobody, upstream: api}
"""

BELOW = (
    "__next._full.txt", "__next._tree.txt", "__next._head.txt", "__next.admin.__PAGE__.txt", "__next.!KGFwcCk.__PAGE__.txt", "__next.$d$slug.txt", "__next.admin/__PAGE__.txt", "__NEXT._full.txt",
    "_payload.json", "_payload.js", "_payload.a1b2.json", "_payload.a1b2.js", "_payload-json", "_payloadxjs", "_payload?json", "_payload?js", "_payload.a1b2?json", "_payload.a1b2?js=1&x=2", "_payload", "_PAYLOAD.a1?json",
    "__data.json", "q-data.json", "routeInfo.json", "index.pageContext.json", "index.pageContext.json.br", "_root.rsc", "_.rsc", "_root.manifest", "_.data",
    "index.txt", "index.rsc", "index.json", "index.xml", "index.md", "__data.json.gz", "_payload.js.br", "__next._full.txt.gz",
)  # fmt: skip
BESIDE = (
    ".txt", ".rsc", ".prefetch.rsc", ".meta", ".body", ".md", ".data", ".json", ".html.gz", ".html__data.json",
    ".segments/_full.segment.rsc", ".segments/admin/__PAGE__.segment.rsc",
)  # fmt: skip
ELSEWHERE = (
    "/_next/data/b1/{page}.json", "/_next/data/b1/en/{page}.json", "/_next/data/b1/{page}.json.br", "/page-data/{page}/page-data.json",
    "/_nuxt/static/1700000000/{page}/payload.js", "/_nuxt/static/1700000000/{page}/state.js", "/RSC/R/{page}.txt", "/api/_analog/pages/{page}", "/_analog/pages/{page}",
    "/_expo/loaders/{page}", "/_expo/loaders/{page}.js", "/_sources/{page}.rst.txt", "/_sources/{page}.md.txt", "/_sources/{page}/index.rst.txt", "/_sources/{page}.txt",
    "/_sources/{page}.rst", "/_sources/{page}.md", "/_sources/{page}.ipynb", "/_sources/{page}", "/_sources/{page}/index.md",
)  # fmt: skip
START = (
    *(f"/{name}" for name in BELOW),
    "/index.segments/_tree.segment.rsc", "/_next/data/b1/index.json", "/page-data/index/page-data.json",
    "/_nuxt/static/1700000000/payload.js", "/RSC/R/_root.txt", "/api/_analog/pages/index", "/_expo/loaders/index", "/_expo/loaders/index.js", "/_sources/index.rst.txt", "/_sources/index.md", "/_sources/index.ipynb",
)  # fmt: skip


@pytest.mark.parametrize("page", ["admin", "blog/x/private", "base/admin"])
@pytest.mark.parametrize(
    "path",
    [
        *(f"/{{page}}/{name}" for name in BELOW),
        *(f"/{{page}}{name}" for name in BESIDE),
        *ELSEWHERE,
    ],
)
def test_the_data_of_a_protected_page_are_served_by_no_other_route(page: str, path: str) -> None:
    decision = decide(snapshot(SITE, NOBODY), f"GET {path.format(page=page)}")
    assert (decision.allowed, decision.reason) == (False, Reason.AMBIGUOUS_PATH), decision.route


@pytest.mark.parametrize("path", ELSEWHERE)
def test_the_data_of_a_site_below_another_folder_are_found_too(path: str) -> None:
    decision = decide(snapshot(SITE, NOBODY), f"GET /base{path.format(page='admin')}")
    assert (decision.allowed, decision.reason) == (False, Reason.AMBIGUOUS_PATH), decision.route


@pytest.mark.parametrize("path", START)
def test_the_data_of_a_protected_start_page_are_served_by_no_other_route(path: str) -> None:
    decision = decide(snapshot(SITE, NOBODY), f"GET {path}")
    assert (decision.allowed, decision.reason) == (False, Reason.AMBIGUOUS_PATH), decision.route


@pytest.mark.parametrize(
    "path",
    # What pages load.
    ["/_next/static/chunks/app/admin/page-0cz1d0mv5g.js", "/_next/static/b1/_buildManifest.js", "/_next/static/css/admin.css", "/_next/static/media/admin.woff2", "/_nuxt/admin.c952568d.js", "/_nuxt/builds/meta/b1.json", "/_nuxt/static/admin.png", "/_nuxt/static/admin/logo.svg",
     "/assets/admin.js", "/assets/index-4f2a.js", "/assets/data/users.json", "/assets/admin.md.Ab12.js", "/_app/immutable/nodes/2.js", "/_app/version.json", "/_astro/admin.4f2a.css", "/page-data/app-data.json", "/page-data/sq/d/1.json", "/_expo/static/js/web/index-4f2a.js", "/build/q-4f2a.js", "/build/q-manifest.json", "/_static/admin.css", "/_images/admin.png",
     # The data of what nobody protects.
     "/about/__next._full.txt", "/about/_payload.js", "/about.txt", "/about.segments/_tree.segment.rsc", "/_next/data/b1/about.json", "/RSC/R/about.txt", "/api/_analog/pages/about", "/_expo/loaders/about", "/_sources/about.rst.txt", "/_sources/about.md", "/about/_payload?json", "/blog/x/__next._full.txt",
     # What only looks like it; a single-page application has its texts so.
     "/assets/data/index.json", "/assets/data/en/index.json", "/assets/data/admin/index.json", "/sources/admin.md", "/x_sources/admin.md", "/_sources/x/admin.md", "/_sources/administration.md", "/admin/_payloads?json", "/admin/_payload/x?json",
     "/admin/x__next._full.txt", "/admin/__nextfull.txt", "/admin/__next._full.png", "/admin/_payload-x", "/admin/_payload/json", "/admin/x_payload.js", "/admin/payload.js", "/admin/data.json", "/admin/_payloads.js", "/admin/x_root.rsc", "/admin.segments/x.png", "/RSC/admin.txt", "/x/_analogous/pages/admin", "/admin/routeInfo.js"],
)  # fmt: skip
def test_what_is_no_data_of_a_protected_page_passes(path: str) -> None:
    decision = decide(snapshot(SITE, NOBODY), f"GET {path}")
    assert decision.route is not None
    assert (decision.route.id, decision.allowed) == ("rest", True), decision.reason


def test_a_route_for_all_of_a_page_takes_its_data() -> None:
    world = snapshot(
        """
        - {id: rest, match: {path: "/{rest:path}", except_reserved: true}, auth: public,
           upstream: api}
        - {id: admin, match: {prefix: /admin}, auth: optional, policy: everybody, upstream: api}
        """,
        "policy: everybody\nrules: [{id: all, allow: ['*']}]",
    )
    for name in BELOW:
        decision = decide(world, f"GET /admin/{name}")
        assert (decision.route and decision.route.id, decision.allowed) == ("admin", True)


@pytest.mark.parametrize(
    "path",
    ["/routeInfo.json", "/admin/routeInfo.json", "/admin/_payload.json", "/_payload.js", "/admin/__data.json", "/admin/q-data.json", "/admin.data", "/admin.segments/x.segment.rsc", "/admin/__next._full.txt", "/_next/data/b1/admin.json", "/page-data/admin/page-data.json",
     "/_nuxt/static/b1/admin/payload.js", "/RSC/R/admin.txt", "/api/_analog/pages/admin", "/_expo/loaders/admin", "/_sources/index.rst.txt", "/_sources/admin.md"],
)  # fmt: skip
def test_data_that_a_route_names_letter_by_letter_are_its_own(path: str) -> None:
    own = f"    - {{id: own, match: {{path: {path}}}, auth: public, upstream: api}}\n"
    world = snapshot(SITE + own, NOBODY)
    decision = decide(world, f"GET {path}")
    assert decision.route is not None
    assert (decision.route.id, decision.allowed) == ("own", True), decision.reason
    assert decide(world, f"GET {path}/").reason is Reason.AMBIGUOUS_PATH


@pytest.mark.parametrize(
    ("pattern", "path"),
    [("/{page}/_payload.json", "/admin/_payload.json"), ("/_sources/{page}", "/_sources/admin.md"),
     ("/_next/data/{build}/admin.json", "/_next/data/b1/admin.json"), ("/_expo/loaders/{rest:path}", "/_expo/loaders/admin")],
)  # fmt: skip
def test_data_that_a_pattern_takes_are_those_of_the_protected_page(pattern: str, path: str) -> None:
    own = f'    - {{id: own, match: {{path: "{pattern}"}}, auth: public, upstream: api}}\n'
    own = own.replace("}, auth", ", except_reserved: true}, auth", 1)
    assert decide(snapshot(SITE + own, NOBODY), f"GET {path}").reason is Reason.AMBIGUOUS_PATH
