"""One sign-in for several hosts in a real browser, over TLS, beside a hostile host of the domain."""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.browser.driving import NEEDS_CHROMIUM, Browser, Stranger, chromium
from tests.certificates import Authority
from tests.contract.running import Running, started
from tests.ports import free_port

pytestmark = [pytest.mark.slow, NEEDS_CHROMIUM]

DOMAIN = "apps.example"
LOGIN, ONE, TWO, EVIL = (f"{name}.{DOMAIN}" for name in ("login", "one", "two", "evil"))
FLAGS = (f"--host-resolver-rules=MAP *.{DOMAIN} 127.0.0.1", "--ignore-certificate-errors")
EMAIL, PASSWORD = "ada@example.com", "correct horse 7 battery"

ROUTES = f"""\
version: 1
session: {{{{domain: {DOMAIN}}}}}
defaults: {{{{auth: required, accept: [cookie]}}}}
upstreams:
  echo: {{{{targets: ["http://127.0.0.1:{{port}}"]}}}}
routes:
  - {{{{id: login, match: {{{{host: {LOGIN}, path: /}}}}, auth: public, upstream: echo}}}}
  - {{{{id: one, match: {{{{host: {ONE}, path: "/{{{{rest:path}}}}", except_reserved: true}}}}, policy: signed-in, upstream: echo}}}}
  - {{{{id: two, match: {{{{host: {TWO}, path: "/{{{{rest:path}}}}", except_reserved: true}}}}, policy: signed-in, upstream: echo}}}}
"""


@dataclass
class Site:
    gateway: Running
    evil: Stranger

    def url(self, host: str, path: str = "/") -> str:
        return f"https://{host}:{self.gateway.port}{path}"

    @property
    def evil_url(self) -> str:
        return f"http://{EVIL}:{self.evil.server_port}/"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with hosts(tmp_path_factory.mktemp("hosts"), ROUTES) as opened:
        yield opened


@contextmanager
def hosts(folder: Path, routes: str) -> Iterator[Site]:
    """A gateway at three hosts of the domain, over TLS, with one account."""
    certificate, key = Authority(folder).issue(LOGIN)
    port = free_port()
    with started(
        folder / "gateway",
        routes=routes,
        GATEWAY_LISTEN=f"127.0.0.1:{port}",
        GATEWAY_PUBLIC_URL=f"https://{LOGIN}:{port}",
        GATEWAY_KEY_SECRET="3q2+7wABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhs=",
        GATEWAY_TLS_CERT=certificate,
        GATEWAY_TLS_KEY=key,
    ) as gateway:
        gateway.port = port
        made = gateway.cli(
            "users", "create", EMAIL, "--verified", "--password-stdin", stdin=PASSWORD
        )
        assert made.returncode == 0, made.stderr
        yield Site(gateway, Stranger())


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    with chromium(tmp_path / "profile", *FLAGS) as opened:
        yield opened


def sign_in(browser: Browser, site: Site) -> None:
    browser.open(site.url(LOGIN))
    status = browser.run(
        """const answer = await fetch('/auth/login', {method: 'POST',
             headers: {'Content-Type': 'application/json'},
             body: JSON.stringify({email: args[0], password: args[1], transport: 'cookie'})});
           return answer.status;""",
        EMAIL,
        PASSWORD,
    )
    assert status == 200


def shown(browser: Browser) -> tuple[str, str | None]:
    """The target that the backend was asked for, and who it was told is calling."""
    seen = json.loads(browser.page())
    fields = {name.lower(): value for name, value in seen["fields"]}
    assert "__Host-" not in fields.get("cookie", "")
    return seen["target"], fields.get("x-auth-email")


def session_ids(browser: Browser) -> list[str]:
    listed = browser.run("return (await (await fetch('/auth/sessions')).json())")
    return [session["session_id"] for session in listed["sessions"]]


class NotLedOn(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any, **__: Any) -> None:
        """A redirect is an answer like another."""


def test_a_sign_in_counts_at_every_host_and_a_sign_out_too(browser: Browser, site: Site) -> None:
    browser.open(site.url(ONE, "/report?year=2026"))
    assert "You are not signed in." in browser.page()
    sign_in(browser, site)
    for host in (ONE, TWO):
        browser.open(site.url(host, "/report?year=2026"))
        assert shown(browser) == ("/report?year=2026", EMAIL)
        assert browser.driver.current_url == site.url(host, "/report?year=2026")
    assert len(session_ids(browser)) == 1
    ended = browser.run("return (await fetch('/auth/logout', {method: 'POST'})).status")
    assert ended == 204
    for host in (ONE, LOGIN):
        browser.open(site.url(host, "/auth/me"))
        assert "session_unknown" in browser.page() or "token_revoked" in browser.page()
    browser.open(site.url(ONE, "/report"))
    assert "You are not signed in." in browser.page()


def test_a_hostile_host_of_the_domain_cannot_fix_a_session(browser: Browser, site: Site) -> None:
    """It sets cookies of our names for the domain, then fills the jar."""
    sign_in(browser, site)
    browser.open(site.url(ONE, "/report"))
    (session,) = session_ids(browser)
    browser.open(site.evil_url)
    browser.run(
        """for (const name of ['__Host-session', '__Host-hand-over', '__host-session', '=__Host-session'])
             document.cookie = `${name}=${'x'.repeat(43)}; path=/; domain=${args[0]}`;""",
        DOMAIN,
    )
    browser.open(site.url(ONE, "/report"))
    assert shown(browser) == ("/report", EMAIL)
    browser.open(site.evil_url)
    browser.run(
        """for (let n = 0; n < 400; n++)
             document.cookie = `n${n}=1; path=/; domain=${args[0]}`;""",
        DOMAIN,
    )
    browser.open(site.url(TWO, "/report"))
    assert shown(browser) == ("/report", EMAIL)
    assert "n399=1" in browser.page()  # the jar's flood did arrive
    assert session_ids(browser) == [session]


def test_a_page_of_one_host_gets_no_code_that_a_thief_could_use(
    browser: Browser, site: Site
) -> None:
    """It names the browser itself, and has the code refused by cookies that are too long: the
    address of the refusal, which it can read, still has it."""
    sign_in(browser, site)
    browser.open(site.url(ONE, "/report"))
    browser.driver.delete_all_cookies()  # of this host; they are over after a while anyway
    chosen = "n" * 43
    where = browser.run(
        """document.cookie = `__Host-hand-over=${args[0]}; path=/; secure`;
           for (let n = 0; n < 20; n++)
             document.cookie = `n${n}=${'x'.repeat(3500)}; path=/auth/hand-over/accept; secure`;
           const other = window.open('/auth/hand-over/start?return_to=/');
           for (let n = 0; n < 300; n++) {
             await new Promise((resolve) => setTimeout(resolve, 50));
             try {
               if (other.location.search.startsWith('?code=')) return other.location.search;
             } catch { continue; }
           }
           return '';""",
        chosen,
    )
    assert where.startswith("?code=")
    thief = urllib.request.Request(
        f"https://127.0.0.1:{site.gateway.port}/auth/hand-over/accept{where}",
        headers={"Host": ONE, "Cookie": f"__Host-hand-over={chosen}"},
    )
    unverified = ssl.create_default_context()
    unverified.check_hostname, unverified.verify_mode = False, ssl.CERT_NONE
    opener = urllib.request.build_opener(
        urllib.request.HTTPSHandler(context=unverified), NotLedOn()
    )
    with pytest.raises(urllib.error.HTTPError) as refused:
        opener.open(thief)
    # The code is worth nothing here: this browser is told to ask for one of its own.
    assert refused.value.code == 303
    led = urlsplit(str(refused.value.headers["Location"]))
    assert not parse_qs(led.query).get("code")
    cookies = refused.value.headers.get_all("Set-Cookie") or []
    assert not [line for line in cookies if line.startswith("__Host-session=")]
    refused.value.close()
