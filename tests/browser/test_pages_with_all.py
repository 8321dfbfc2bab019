"""The pages of who has all that an installation can offer: attributes, tenants, a provider, a factor
that is required; and what a person does with a provider there, at a real one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyotp
import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select

from tests.browser.driving import NEEDS_CHROMIUM
from tests.browser.looks import Look
from tests.browser.passkeys import virtual_authenticator
from tests.browser.test_pages import PASSWORD, looking
from tests.contract.running import Running, started
from tests.ports import free_port
from tests.providers import oidc_provider
from tests.providers.oidc_provider import OidcProvider, Setup, application
from tests.providers.visitor import SECRET

pytestmark = [pytest.mark.slow, NEEDS_CHROMIUM]

LABEL = "Example Inc."
ROUTES = """\
version: 1
defaults: {{{{auth: required, accept: [cookie], sign_in: page}}}}
require_factor: {{{{roles: [strict], within: 0s}}}}
attributes:
  nickname: {{{{set_by: person}}}}
  colour: {{{{values: [red, blue], set_by: person}}}}
  newsletter: {{{{type: boolean, set_by: person}}}}
  languages: {{{{type: list, set_by: person}}}}
  floor: {{{{type: integer, set_by: person}}}}
tenants: {{{{roles: [owner, member]}}}}
providers:
  company:
    label: {label}
    issuer: {issuer}
    client_id: gateway
    client_secret: {{{{secret: company}}}}
upstreams:
  echo: {{{{targets: ["http://127.0.0.1:{{port}}"]}}}}
routes:
  - {{{{id: home, match: {{{{path: /}}}}, policy: signed-in, upstream: echo}}}}
  - id: locked
    match: {{{{path: /locked}}}}
    policy: orders
    action: orders:write
    resource: {{{{owner: nobody}}}}
    upstream: echo
"""


@dataclass
class Site:
    gateway: Running
    provider: OidcProvider

    def has(self, email: str, *commands: tuple[str, ...]) -> None:
        """An account, and what is done with it."""
        words = ("users", "create", email, "--verified", "--password-stdin")
        done = self.gateway.cli(*words, stdin=PASSWORD)
        assert done.returncode == 0, done.stderr
        for command in commands:
            done = self.gateway.confirmed(*command)
            assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder, port = tmp_path_factory.mktemp("all"), free_port()
    origin = f"http://localhost:{port}"
    client = application("gateway", f"{origin}/auth/providers/company/callback")
    with oidc_provider.started(folder / "provider", Setup(clients=(client,))) as provider:
        own = {
            "GATEWAY_LISTEN": f"127.0.0.1:{port}",
            "GATEWAY_PUBLIC_URL": origin,
            "GATEWAY_SECRET_COMPANY": SECRET,
        }
        routes = ROUTES.format(label=LABEL, issuer=provider.issuer)
        with started(folder / "g", routes=routes, **own) as gateway:
            gateway.port = port
            yield Site(gateway, provider)


@pytest.fixture(params=[True, False], ids=["javascript", "no-javascript"])
def look(request: pytest.FixtureRequest, tmp_path: Path, site: Site) -> Iterator[Look]:
    with looking(tmp_path / "profile", site.gateway, javascript=request.param) as opened:
        yield opened


def named(look: Look, name: str) -> str:
    """An address that no other round has."""
    return f"{name}-{look.javascript}@example.com".lower()


def sign_in(look: Look, email: str) -> None:
    look.open("/")
    look.fill(email=email, password=PASSWORD)
    look.press("Sign in")


def signs_in_there(look: Look, site: Site, account: str) -> None:
    """At the provider, which asks for a name and any password, and then for consent."""
    assert look.browser.driver.current_url.startswith(site.provider.issuer)
    for name, value in (("login", account), ("password", "any")):
        look.browser.driver.find_element(By.NAME, name).send_keys(value)
    look.press("Sign-in")
    look.press("Continue")


def test_an_account_with_all_is_for_everybody(look: Look, site: Site) -> None:
    email = named(look, "kay")
    tenants = ("users", "tenants", email, "acme=owner", "globex=member")
    site.has(email, tenants, ("roles", "grant", email, "editor"))
    look.open("/")
    assert f"Continue with {LABEL}" in look.browser.page()
    look.judge("sign-in, with a provider")
    sign_in(look, email)
    look.open("/auth/ui/account")
    assert "Your roles: editor." in look.browser.page()
    look.judge("account, with attributes, tenants and a provider")
    look.fill(profile__nickname="Kay", profile__languages="de, en", profile__floor="third")
    Select(look.browser.driver.find_element(By.ID, "profile-colour")).select_by_value("blue")
    look.press("Save")
    assert look.browser.driver.find_element(By.ID, "profile-floor-told").is_displayed()
    look.judge("account, a wrong attribute")
    look.fill(profile__nickname="Kay", profile__languages="de, en", profile__floor="3")
    look.press("Save")
    assert "Your profile has been saved." in look.browser.page()
    look.press("Work for acme")
    assert "You are working for another organisation now." in look.browser.page()
    look.open("/locked")
    assert "You have no access to this page." in look.browser.page()
    look.judge("access denied")


def test_a_provider_is_linked_signs_in_and_is_signed_out_of(look: Look, site: Site) -> None:
    email, there = named(look, "lou"), f"lou-{look.javascript}".lower()
    site.has(email)
    sign_in(look, email)
    look.open("/auth/ui/account")
    look.follow(f"Link {LABEL}")
    signs_in_there(look, site, there)
    look.browser.wait_for(lambda: look.path() == "/auth/ui/account?done=link", "the account page")
    assert "The provider is linked." in look.browser.page()
    look.judge("account, with a linked provider")
    look.open("/auth/ui/step-up")
    look.judge("step-up, with a provider")
    look.open("/auth/ui/sign-out")
    look.press("Sign out")
    # Signed in there still: nothing more is asked.
    look.follow(f"Continue with {LABEL}")
    look.browser.wait_for(lambda: look.path() == "/", "the session that the provider began")
    assert email in look.browser.page()
    look.open("/auth/ui/sign-out")
    look.press("Sign out")
    assert "You have signed out." in look.browser.page()
    look.judge("signed out, with a provider")
    look.follow(f"Sign out at {LABEL} too")
    assert look.browser.driver.current_url.startswith(f"{site.provider.issuer}/session/end")


def test_a_factor_that_is_required_is_enrolled_by_everybody(look: Look, site: Site) -> None:
    email = named(look, "mia")
    site.has(email, ("roles", "grant", email, "strict"))
    sign_in(look, email)
    assert "Set up a second factor" in look.browser.page()
    look.judge("enrolment")
    (secret,) = set(re.findall(r"secret=([A-Z2-7]+)", look.browser.driver.page_source))
    look.fill(code="000000")
    look.press("Confirm")
    look.judge("enrolment, wrong code")
    look.fill(code=pyotp.TOTP(secret).now())
    look.press("Confirm")
    assert len(look.browser.driver.find_elements(By.CSS_SELECTOR, ".codes code")) == 10
    look.follow("Continue")
    assert look.path() == "/"
    assert email in look.browser.page()


def test_pages_with_a_passkey_are_for_everybody(tmp_path: Path, site: Site) -> None:
    site.has("noa@example.com")
    with (
        looking(tmp_path / "profile", site.gateway, javascript=True) as look,
        virtual_authenticator(look.browser),
    ):
        sign_in(look, "noa@example.com")
        look.open("/auth/ui/account")
        look.fill(factors__name="laptop")
        look.press("Add a passkey")
        look.browser.wait_for(lambda: "recovery" in look.browser.page(), "the recovery codes")
        for path in ("account", "step-up"):
            look.open(f"/auth/ui/{path}")
            look.judge(f"{path}, with a passkey")
