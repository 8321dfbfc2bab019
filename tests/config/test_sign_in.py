"""`sign_in: page`, as it is read from `routes.yaml`."""

from __future__ import annotations

import pytest

from tests.access.worlds import problems, snapshot

ROUTE = "- {{id: a, match: {{path: /a}}, upstream: api, {0}}}\n"
WORLD = """
version: 1
upstreams: {api: {targets: [http://127.0.0.1:9001]}}
defaults: {policy: signed-in, upstream: api, sign_in: page}
routes:
  - {id: page, match: {path: /a}}
  - {id: optional, match: {path: /b}, auth: optional}
  - {id: off, match: {path: /c}, sign_in: off}
  - {id: public, match: {path: /d}, auth: public}
  - {id: tokens, match: {path: /e}, accept: [bearer]}
"""


def test_nobody_is_led_anywhere_unless_a_route_says_so() -> None:
    (route,) = snapshot(ROUTE.format("policy: signed-in")).routes
    assert not route.sign_in_page


def test_what_defaults_say_is_for_the_routes_that_a_browser_can_sign_in_for() -> None:
    pages = {route.id for route in snapshot(WORLD).routes if route.sign_in_page}
    assert pages == {"page", "optional"}


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ("auth: public, sign_in: page", "`auth: public` asks nobody who they are"),
        (
            "policy: signed-in, accept: [bearer], sign_in: page",
            "the page signs a browser in by cookie",
        ),
        ("policy: signed-in, sign_in: pages", "pages"),
        ("policy: signed-in, sign_in: [page]", "`sign_in`"),
    ],
)
def test_a_route_that_says_what_it_cannot_is_a_mistake(keys: str, problem: str) -> None:
    (found,) = problems(ROUTE.format(keys))
    assert problem in found
    assert "routes.yaml:" in found


def test_the_page_of_a_path_is_that_of_its_route() -> None:
    world = snapshot(WORLD)
    assert world.has_sign_in_page("any.example", "/a?x=1")
    assert not world.has_sign_in_page("any.example", "/c")
    assert not world.has_sign_in_page("any.example", "/nowhere")
    assert not world.has_sign_in_page("any.example", "/a/../a")


def test_a_page_is_asked_for_by_get() -> None:
    world = snapshot(
        """
        - {id: reads, match: {path: /a, methods: [GET]}, policy: signed-in, sign_in: page,
           upstream: api}
        - {id: writes, match: {path: /b, methods: [POST]}, policy: signed-in, sign_in: page,
           upstream: api}
        """
    )
    assert world.has_sign_in_page("any.example", "/a")
    assert not world.has_sign_in_page("any.example", "/b")
