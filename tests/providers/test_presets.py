"""`preset: google`, `microsoft` and `keycloak` at a real provider that says of people what each of
these says; and what stands on a provider's session: a pushed request, a fresh sign-in, the ends."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pyotp
import pytest

from tests.contract.running import Running, started
from tests.e2e.processes import until
from tests.ports import free_port
from tests.providers import oidc_provider
from tests.providers.browser import Browser
from tests.providers.oidc_provider import OidcProvider, Setup, application
from tests.providers.sign_in_site import refused
from tests.providers.visitor import SECRET, Fetched

pytestmark = pytest.mark.slow

NAMES = ("google", "microsoft", "keycloak")
FRESH_S = 6
ROUTES = """\
version: 1
require_factor: {{{{roles: [strict], within: 0s}}}}
providers:
  google:
    preset: google
    issuer: {google}
    client_id: gateway
    client_secret: {{{{secret: company}}}}
    trust_email: true
    accounts: create
  microsoft:
    preset: microsoft
    issuer: {microsoft}
    client_id: gateway
    client_secret: {{{{secret: company}}}}
    trust_email: true
    accounts: create
  keycloak:
    preset: keycloak
    issuer: {keycloak}
    client_id: gateway
    client_secret: {{{{secret: company}}}}
    scopes: [openid, email, groups]
    roles: claims.realm_access.roles
    trust_email: true
    accounts: create
    backchannel_logout: true
    after_sign_out: {public}/bye
upstreams:
  echo: {{{{targets: ["http://127.0.0.1:{{port}}"]}}}}
routes:
  - {{{{id: me, match: {{{{path: /me}}}}, policy: signed-in, sign_in: page, upstream: echo}}}}
"""
FRESH = f"""\
version: 1
policy: fresh
rules:
  - {{id: fresh, allow: ["*"], step_up: {{max_age: {FRESH_S}s}}}}
"""
FRESH_ROUTE = """\
  - {id: pay.fresh, match: {path: /pay}, policy: fresh, action: pay, sign_in: page, upstream: echo}
"""


@dataclass
class Site:
    gateway: Running
    providers: dict[str, OidcProvider]
    origin: str

    def browser(self) -> Browser:
        return Browser(self.origin, tuple(one.issuer for one in self.providers.values()))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder: Path = tmp_path_factory.mktemp("presets")
    port = free_port()
    origin = f"http://127.0.0.1:{port}"
    with ExitStack() as stack:
        providers = {}
        for name in NAMES:
            client = application(
                "gateway",
                f"{origin}/auth/providers/{name}/callback",
                backchannel_logout_uri=f"{origin}/auth/providers/{name}/backchannel-logout",
                post_logout_redirect_uris=[f"{origin}/bye"],
            )
            setup = Setup(clients=(client,), claims_in_id_token=True)
            providers[name] = stack.enter_context(oidc_provider.started(folder / name, setup))
        issuers = {name: one.issuer for name, one in providers.items()}
        own = {
            "GATEWAY_LISTEN": f"127.0.0.1:{port}",
            "GATEWAY_PUBLIC_URL": origin,
            "GATEWAY_SECRET_COMPANY": SECRET,
        }
        routes = ROUTES.format(public=origin, **issuers)
        gateway = stack.enter_context(started(folder / "g", routes=routes, **own))
        gateway.port = port
        yield Site(gateway, providers, origin)


def test_google_says_whose_address_it_is(site: Site) -> None:
    google = site.providers["google"]
    google.describe("1", email="ada@gmail.com", email_verified=True)
    google.describe("2", email="bob@corp.example", email_verified=True, hd="corp.example")
    google.describe("3", email="eve@corp.example", email_verified=True)
    for subject, email in (("1", "ada@gmail.com"), ("2", "bob@corp.example")):
        browser = site.browser()
        browser.sign_in("google", subject)
        assert browser.me()["email"] == email
    browser = site.browser()
    assert refused(browser.sign_in("google", "3")[1])[0] == 403
    assert browser.me() is None
    # All of it stood in the ID token.
    assert google.asked().get("/me", 0) == 0


def test_microsoft_says_whose_domain_was_proven(site: Site) -> None:
    microsoft = site.providers["microsoft"]
    microsoft.describe("1", email="cyd@corp.example", xms_edov=True)
    microsoft.describe("2", email="victim@corp.example", email_verified=True)
    browser = site.browser()
    browser.sign_in("microsoft", "1")
    assert browser.me()["email"] == "cyd@corp.example"
    assert refused(site.browser().sign_in("microsoft", "2")[1])[0] == 403


def test_keycloak_says_the_roles_and_both_sign_outs_work(site: Site) -> None:
    keycloak = site.providers["keycloak"]
    roles = {"roles": ["staff", "offline_access"]}
    keycloak.describe("dan", email="dan@corp.example", email_verified=True, realm_access=roles)
    browser, other = site.browser(), site.browser()
    browser.sign_in("keycloak", "dan")
    other.sign_in("keycloak", "dan")
    assert browser.me()["roles"] == ["offline_access", "staff"]
    # Theirs ends ours.
    other.go(f"{keycloak.issuer}/session/end", "dan")
    assert [other.me() for _ in range(4)] == [None] * 4
    # Ours offers theirs.
    page = browser.open(f"{site.origin}/auth/ui/sign-out", form={"x": "y"}, come_from=site.origin)
    found = re.search(rf'href="({re.escape(keycloak.issuer)}[^"]*)"', page.body.decode())
    assert found, page.body
    url, _ = browser.go(html.unescape(found[1]), "dan", stop_at=f"{site.origin}/bye")
    assert url.startswith(f"{site.origin}/bye")


def test_who_must_have_a_factor_enrols_it_after_the_provider_and_goes_on(site: Site) -> None:
    roles = {"roles": ["strict"]}
    site.providers["keycloak"].describe(
        "gil", email="gil@corp.example", email_verified=True, realm_access=roles
    )
    browser = site.browser()
    _, page = browser.sign_in("keycloak", "gil", return_to="/me")
    assert browser.me() is None
    form = form_of(page, "/auth/ui/sign-in/enrol")
    (secret,) = parse_qs(urlsplit(form["otpauth_uri"]).query)["secret"]
    done = browser.open(
        f"{site.origin}/auth/ui/sign-in/enrol",
        form={**form, "code": pyotp.TOTP(secret).now()},
        come_from=site.origin,
    )
    assert (done.status, b'href="/me"' in done.body) == (200, True), done.body
    assert browser.me()["email"] == "gil@corp.example"


def form_of(page: Fetched, action: str) -> dict[str, str]:
    """The hidden fields of the form that is posted there."""
    found = re.search(rf'<form[^>]* action="{action}"[^>]*>(.*?)</form>', page.body.decode(), re.S)
    assert found, page.body
    fields = re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', found[1])
    return {name: html.unescape(value) for name, value in fields}


def test_what_is_asked_of_a_provider_that_takes_it_is_pushed(site: Site) -> None:
    """Nobody who sees the URL sees the request, nor changes it (RFC 9126)."""
    google = site.providers["google"]
    before = google.asked().get("/request", 0)
    led = site.browser().open(f"{site.origin}/auth/providers/google/start")
    assert google.asked()["/request"] == before + 1
    query = parse_qs(urlsplit(str(led.headers["Location"])).query)
    assert query.keys() == {"client_id", "request_uri"}


def test_a_route_that_wants_a_fresh_sign_in_has_the_provider_ask_again(site: Site) -> None:
    (site.gateway.folder / "policies" / "fresh.yaml").write_text(FRESH)
    routes = site.gateway.folder / "routes.yaml"
    routes.write_text(routes.read_text() + FRESH_ROUTE)
    until(lambda: "pay.fresh" in site.gateway.admin("/metrics").body.decode(), 30)
    keycloak, browser = site.providers["keycloak"], site.browser()
    roles = {"roles": ["staff"]}
    keycloak.describe("fay", email="fay@corp.example", email_verified=True, realm_access=roles)
    browser.sign_in("keycloak", "fay", return_to="/pay")
    assert browser.visited[-1] == f"{site.origin}/pay"
    until(lambda: browser.open(f"{site.origin}/pay").status == 303, 4 * FRESH_S)
    url, page = browser.go(f"{site.origin}/pay?amount=7", "fay")
    assert url.startswith(f"{site.origin}/auth/ui/step-up?return_to=")
    found = re.search(r'href="(/auth/providers/keycloak/start[^"]*)"', page.body.decode())
    assert found, page.body
    before = len(browser.visited)
    url, page = browser.go(site.origin + html.unescape(found[1]), "fay")
    assert (url, page.status) == (f"{site.origin}/pay?amount=7", 200)
    # It has asked who they are, though their session there goes on.
    assert any("/interaction/" in one for one in browser.visited[before:])
