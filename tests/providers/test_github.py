"""Sign-in by GitHub, which speaks no OpenID Connect: its API says who somebody is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.contract.running import Running, started
from tests.ports import free_port
from tests.providers import github
from tests.providers.browser import Browser
from tests.providers.github import SECRET, GitHub
from tests.providers.visitor import Fetched

pytestmark = pytest.mark.slow

ROUTES = """\
version: 1
providers:
  github:
    preset: github
    issuer: {issuer}
    client_id: gateway
    client_secret: {{{{secret: github}}}}
    scopes: [read:user, user:email, read:org]
    groups: [example-org]
    roles: claims.groups.map(g, 'org-' + g)
    trust_email: true
    accounts: create
upstreams:
  echo: {{{{targets: ["http://127.0.0.1:{{port}}"]}}}}
routes:
  - {{{{id: me, match: {{{{path: /me}}}}, policy: signed-in, upstream: echo}}}}
"""
VERIFIED = [
    {"email": "old@example.com", "primary": False, "verified": True},
    {"email": "ada@example.com", "primary": True, "verified": True},
]


@dataclass
class Site:
    gateway: Running
    github: GitHub
    origin: str

    def sign_in(self) -> tuple[Browser, Fetched]:
        browser = Browser(self.origin, ())
        _, page = browser.sign_in("github", "ada", return_to="/me")
        return browser, page


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder: Path = tmp_path_factory.mktemp("github")
    port = free_port()
    origin = f"http://127.0.0.1:{port}"
    own = {
        "GATEWAY_LISTEN": f"127.0.0.1:{port}",
        "GATEWAY_PUBLIC_URL": origin,
        "GATEWAY_SECRET_GITHUB": SECRET,
    }
    with github.started() as served:
        routes = ROUTES.format(issuer=served.issuer)
        with started(folder / "g", routes=routes, **own) as gateway:
            gateway.port = port
            yield Site(gateway, served, origin)


@pytest.fixture
def site(running: Site) -> Site:
    running.github.user = {"id": 7, "login": "ada", "name": "Ada"}
    running.github.emails = list(VERIFIED)
    running.github.organizations = ["example-org", "friends"]
    return running


def test_somebody_of_the_organization_signs_in_and_keeps_the_account(site: Site) -> None:
    browser, page = site.sign_in()
    assert page.status == 200, page.body
    me = browser.me()
    assert (me["email"], me["roles"]) == ("ada@example.com", ["org-example-org", "org-friends"])
    # Another name and another address: the number is the person.
    site.github.user = {"id": 7, "login": "ada-lovelace"}
    site.github.emails = [{"email": "new@example.com", "primary": True, "verified": True}]
    again, _ = site.sign_in()
    assert again.me()["user_id"] == me["user_id"]
    # The name that was given up is somebody else's now.
    site.github.user = {"id": 8, "login": "ada"}
    other, _ = site.sign_in()
    assert other.me()["user_id"] != me["user_id"]


@pytest.mark.parametrize(
    "emails",
    [
        [],
        [{"email": "eve@example.com", "primary": True, "verified": False}],
        [{"email": "eve@example.com", "primary": False, "verified": True}],
        [{"email": "eve@example.com", "primary": True, "verified": "true"}],
    ],
)
def test_an_address_that_is_not_verified_is_none(site: Site, emails: Any) -> None:
    site.github.user, site.github.emails = {"id": 99, "login": "eve"}, emails
    browser, page = site.sign_in()
    assert (page.status, browser.me()) == (403, None)


def test_who_has_left_the_organization_does_not_come_in(site: Site) -> None:
    site.github.organizations = ["friends"]
    browser, page = site.sign_in()
    assert (page.status, browser.me()) == (403, None)


@pytest.mark.parametrize("user", [{}, {"id": None}, {"id": "7"}, {"id": True}, []])
def test_an_answer_that_names_nobody_signs_nobody_in(site: Site, user: Any) -> None:
    site.github.user = user
    browser, page = site.sign_in()
    assert (page.status, browser.me()) == (401, None)


def test_a_code_that_github_has_not_given_is_refused(site: Site) -> None:
    browser = Browser(site.origin, ())
    url, _ = browser.go(
        f"{site.origin}/auth/providers/github/start",
        "ada",
        stop_at=f"{site.origin}/auth/providers/github/callback",
    )
    page = browser.open(url.replace("code=", "code=0"), come_from=site.github.issuer)
    assert (page.status, browser.me()) == (401, None)


def test_the_command_tells_that_github_knows_the_client(site: Site) -> None:
    done = site.gateway.cli("providers", "check")
    assert (done.returncode, "it knows gateway" in done.stdout) == (0, True), done.stdout
