"""The sample in `examples/spa/`, in a real browser: the whole round, and what strangers try."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from selenium.webdriver.common.by import By
from websockets.sync.server import ServerConnection, serve

from tests.browser.driving import NEEDS_CHROMIUM, WITHIN_S, Browser, Stranger, chromium
from tests.contract.running import Running, started
from tests.servers import wait_until

pytestmark = [pytest.mark.slow, NEEDS_CHROMIUM]

SPA = Path(__file__).parents[2] / "examples" / "spa"
EMAIL, PASSWORD = "ada@example.com", "correct horse 7 battery"
ACCESS_TTL_S = 10

ROUTES = """\
version: 1
defaults: {{auth: required, accept: [cookie, bearer]}}
upstreams:
  page: {{targets: ["http://127.0.0.1:PAGE"]}}
  api: {{targets: ["http://127.0.0.1:{port}"]}}
  sockets: {{targets: ["http://127.0.0.1:SOCKETS"]}}
cors:
  friend: {{origins: ["FRIEND"], credentials: true, methods: [GET, POST]}}
routes:
  - {{id: page, match: {{path: /, methods: [GET]}}, policy: signed-in, sign_in: page, upstream: page}}
  - {{id: order, match: {{path: "/orders/{{id}}", methods: [GET]}}, policy: signed-in, sign_in: page, upstream: page}}
  - {{id: assets, match: {{path: "/assets/{{name}}", methods: [GET]}}, auth: public, upstream: page}}
  - {{id: api, match: {{path: "/api/{{rest:path}}"}}, policy: signed-in, upstream: api}}
  - {{id: socket, match: {{path: "/socket/{{name}}"}}, policy: signed-in, upstream: sockets}}
  - {{id: open-socket, match: {{path: "/open-socket/{{name}}"}}, auth: optional, upstream: sockets}}
  - {{id: picture, match: {{path: "/pictures/{{name}}"}}, auth: optional, upstream: api}}
  - {{id: shared, match: {{path: "/shared/{{rest:path}}"}}, policy: signed-in, cors: friend, upstream: api}}
"""


@dataclass
class Site:
    gateway: Running
    stranger: Stranger
    friend: Stranger
    url: str
    sockets: list[tuple[str, str | None]]
    """The handshakes that came to the backend: the path, and who it was told is calling."""

    def mailed_link(self, page: str) -> str:
        """The newest link to `page` in the outbox; a letter is written after its answer."""
        token = (self.gateway.folder / "data" / "admin-token").read_text().strip()
        found: list[str] = []

        def arrived() -> bool:
            answer = self.gateway.admin("/admin/api/outbox", ("Authorization", f"Bearer {token}"))
            lines = [line for mail in answer.json["mails"] for line in mail["text"].splitlines()]
            found.extend(line for line in lines if line.startswith(f"{self.url}{page}?token="))
            return bool(found)

        wait_until(arrived, WITHIN_S, f"a link to {page}")
        return found[0]

    def reached(self, path: str) -> list[dict[str, Any]]:
        """Calls below `path` that came to the backend, and who it was told is calling."""
        return [seen for seen in self.gateway.echo.seen if seen["target"].startswith(path)]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, str(SPA / "serve.py"), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as page:
        assert page.stdout is not None
        page_port = str(urlsplit(page.stdout.readline().strip()).port)
        friend = Stranger()
        routes = ROUTES.replace("PAGE", page_port).replace("FRIEND", friend.same_site)
        opened: list[tuple[str, str | None]] = []

        def echo(socket: ServerConnection) -> None:
            assert socket.request is not None
            opened.append((socket.request.path, socket.request.headers.get("X-Auth-User-Id")))
            for message in socket:
                socket.send(message)

        try:
            with serve(echo, "127.0.0.1", 0) as sockets:
                threading.Thread(target=sockets.serve_forever, daemon=True).start()
                routes = routes.replace("SOCKETS", str(sockets.socket.getsockname()[1]))
                with started(
                    folder / "gateway",
                    routes=routes,
                    GATEWAY_ACCESS_TTL_S=str(ACCESS_TTL_S),
                    GATEWAY_EMAIL_VERIFICATION="required",
                ) as gateway:
                    url = f"http://127.0.0.1:{gateway.port}"
                    yield Site(gateway, Stranger(), friend, url, opened)
        finally:
            page.terminate()


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    with chromium(tmp_path / "profile") as opened:
        yield opened


def sign_in(browser: Browser, site: Site, email: str) -> None:
    made = site.gateway.cli(
        "users", "create", email, "--verified", "--password-stdin", stdin=PASSWORD
    )
    assert made.returncode == 0, made.stderr
    browser.open(site.url)
    give(browser, email, PASSWORD)
    wait_until_signed_in(browser, email)


def give(browser: Browser, email: str, password: str) -> None:
    """At the gateway's page, to which the browser was led."""
    wait_for_page(browser, "Sign in")
    browser.fill_in("email", email)
    browser.fill_in("password", password)
    browser.press("Sign in")


def wait_until_signed_in(browser: Browser, email: str) -> None:
    browser.wait_for(lambda: browser.text("status") == f"Signed in as {email}", "the sign-in")


def wait_for_page(browser: Browser, title: str) -> None:
    """A page of the gateway's own; once a form is sent, the next page is another document."""
    browser.wait_for(lambda: f"{title} –" in browser.driver.title, title)


def click(browser: Browser, link: str) -> None:
    browser.driver.find_element(By.LINK_TEXT, link).click()


def sign_out(browser: Browser) -> None:
    click(browser, "Sign out")
    wait_for_page(browser, "Sign out")
    browser.press("Sign out")
    browser.wait_for(lambda: "You have signed out." in browser.page(), "the sign-out")


def test_the_whole_round_in_three_tabs(browser: Browser, site: Site) -> None:
    browser.open(f"{site.url}/orders/7")
    wait_for_page(browser, "Sign in")
    click(browser, "Create an account")
    wait_for_page(browser, "Create an account")
    browser.fill_in("email", EMAIL)
    browser.fill_in("password", PASSWORD)
    browser.press("Create account")
    wait_for_page(browser, "Look into your mailbox")

    browser.open(site.mailed_link("/auth/ui/verify"))
    wait_for_page(browser, "Confirm your address")
    browser.fill_in("password", PASSWORD)
    browser.press("Confirm")
    browser.wait_for(lambda: "Your address is confirmed" in browser.page(), "the sign-in page")
    browser.open(f"{site.url}/orders/7")
    give(browser, EMAIL, PASSWORD)
    wait_until_signed_in(browser, EMAIL)
    assert browser.driver.current_url == f"{site.url}/orders/7"
    assert browser.run("return document.cookie") == ""

    tabs = [browser.driver.current_window_handle]
    tabs += [browser.new_tab(f"{site.url}/orders/{number}") for number in (8, 9)]
    first_end = 0.0
    for tab in tabs:
        browser.look_at(tab)
        wait_until_signed_in(browser, EMAIL)
        browser.press("Call the API")
        browser.wait_for(lambda: "X-Auth-User-Id" in browser.text("answer"), "the API")
        first_end = max(
            first_end, browser.run("return (await (await fetch('/auth/me')).json()).expires_at")
        )
    browser.wait_for(lambda: time.time() > first_end, "the end of what was read of the account")
    for tab in tabs:
        browser.look_at(tab)
        browser.run("document.getElementById('answer').textContent = ''")
        browser.press("Call the API")
        browser.wait_for(lambda: "X-Auth-User-Id" in browser.text("answer"), "the API, later")
    assert browser.run("return (await (await fetch('/auth/me')).json()).expires_at") > first_end

    (session,) = [c["value"] for c in browser.driver.get_cookies() if "session" in c["name"]]
    sign_out(browser)
    assert all(cookie["name"] != "__Host-session" for cookie in browser.driver.get_cookies())
    kept = ("Cookie", f"__Host-session={session}"), ("Sec-Fetch-Site", "same-origin")
    assert site.gateway.call("GET", "/api/hello", *kept).status == 401
    for number, tab in zip((7, 8), tabs[:2], strict=True):
        browser.look_at(tab)
        wait_for_page(browser, "Sign in")  # it has asked who is signed in, as somebody looks at it
        if number == 8:
            give(browser, EMAIL, PASSWORD)
            wait_until_signed_in(browser, EMAIL)
            assert browser.driver.current_url == f"{site.url}/orders/8"


def test_a_session_elsewhere_is_seen_and_ended(
    browser: Browser, site: Site, tmp_path: Path
) -> None:
    email = "elsewhere@example.com"
    sign_in(browser, site, email)
    with chromium(tmp_path / "another", "--user-agent=Somebody's phone") as other:
        other.open(f"{site.url}/orders/8")
        give(other, email, PASSWORD)
        wait_until_signed_in(other, email)
        click(browser, "Your account")
        wait_for_page(browser, "Your account")
        assert "Somebody's phone" in browser.page()
        browser.press("End session")
        browser.wait_for(lambda: "The session has ended." in browser.page(), "the page again")
        assert "Somebody's phone" not in browser.page()
        other.press("Call the API")
        give(other, email, PASSWORD)
        wait_until_signed_in(other, email)
        assert other.driver.current_url == f"{site.url}/orders/8"


def test_a_forgotten_password_is_set_anew_by_mail(browser: Browser, site: Site) -> None:
    email = "grace@example.com"
    sign_in(browser, site, email)
    sign_out(browser)
    click(browser, "Forgot your password?")
    wait_for_page(browser, "Forgot your password?")
    browser.fill_in("email", email)
    browser.press("Send link")
    wait_for_page(browser, "Look into your mailbox")
    browser.open(site.mailed_link("/auth/ui/reset"))
    wait_for_page(browser, "Set a new password")
    browser.fill_in("password", "another horse 8 stapler")
    browser.press("Set password")
    browser.wait_for(lambda: "password has been changed" in browser.page(), "the change")
    give(browser, email, "another horse 8 stapler")
    wait_until_signed_in(browser, email)


def test_three_slips_lead_to_a_challenge_that_is_solved_by_itself(
    browser: Browser, site: Site
) -> None:
    email = "slip@example.com"
    sign_in(browser, site, email)
    sign_out(browser)
    browser.open(f"{site.url}/orders/7")
    for slip in range(3):
        give(browser, email, f"a slip of the finger {slip}")
        browser.wait_for(lambda: browser.text("problem"), "the refusal")
        browser.driver.execute_script("document.getElementById('problem').id = 'seen'")

    def is_signed_in() -> bool:
        """A person takes longer than the second or two that the third slip costs."""
        if browser.driver.title == "Orders":
            return True
        if "Checked." in browser.page():
            give(browser, email, PASSWORD)
        return False

    browser.wait_for(is_signed_in, "the sign-in")
    wait_until_signed_in(browser, email)
    assert browser.driver.current_url == f"{site.url}/orders/7"


def test_no_script_can_read_or_make_the_cookie(browser: Browser, site: Site) -> None:
    sign_in(browser, site, "hedy@example.com")
    (cookie,) = [c for c in browser.driver.get_cookies() if c["name"] == "__Host-session"]
    assert cookie["httpOnly"]
    assert cookie["secure"]
    assert cookie["path"] == "/"
    assert cookie["sameSite"] == "Lax"
    assert cookie["value"] not in browser.run("return document.cookie")
    browser.run("document.cookie = '__Host-session=chosen; Path=/'")
    assert browser.run("return (await fetch('/auth/me')).status") == 200
    kept = browser.run("return JSON.stringify([{...localStorage}, {...sessionStorage}])")
    assert kept == "[{},{}]"


FORM = """<!doctype html><title>strange</title>
<form method="post" action="{action}" enctype="text/plain"><input name="{name}" value="{value}"></form>
<script>document.forms[0].submit()</script>"""

LOGIN = '{"email":"mallory@example.com","password":"correct horse 7 battery","transport":"cookie","captcha":"'


@pytest.mark.parametrize("where", ["same_site", "cross_site"])
def test_a_form_of_a_strange_page_does_nothing(browser: Browser, site: Site, where: str) -> None:
    """Another port of the same host, whose forms carry the cookie, and another site."""
    sign_in(browser, site, f"form.{where}@example.com".replace("_", "-"))
    strange = getattr(site.stranger, where)
    # Of another site the form carries no cookie at all, and is a stranger's.
    refusal = "cross_origin" if where == "same_site" else '"status": 4'
    before = len(site.reached("/api/"))
    for path in ("/api/orders", "/auth/logout"):
        site.stranger.pages["/form"] = FORM.format(action=site.url + path, name="a", value="b")
        browser.open(f"{strange}/form")
        browser.wait_for(lambda: refusal in browser.page(), f"{path} to be refused")
    site.stranger.pages["/form"] = FORM.format(
        action=site.url + "/auth/login", name=LOGIN.replace('"', "&quot;"), value='"}'
    )
    browser.open(f"{strange}/form")
    browser.wait_for(lambda: "cross_origin" in browser.page(), "the sign-in to be refused")
    assert len(site.reached("/api/")) == before
    browser.open(site.url)
    browser.wait_for(lambda: browser.text("status").startswith("Signed in as form."), "no change")


@pytest.mark.parametrize("where", ["same_site", "cross_site"])
def test_a_fetch_of_a_strange_page_learns_and_does_nothing(
    browser: Browser, site: Site, where: str
) -> None:
    sign_in(browser, site, f"fetch.{where}@example.com".replace("_", "-"))
    before = len(site.reached("/api/"))
    browser.open(getattr(site.stranger, where))
    fetch = "return (await fetch(args[0], args[1])).type"
    for path in ("/auth/me", "/auth/csrf", "/api/hello"):
        answer = browser.run(fetch, site.url + path, {"credentials": "include"})
        assert answer == "rejected: TypeError", path  # no page of another origin reads it
    for path in ("/api/orders", "/auth/logout", "/auth/login"):
        blind = {
            "method": "POST",
            "mode": "no-cors",
            "credentials": "include",
            "body": LOGIN + '"}',
        }
        # Not even "opaque": Cross-Origin-Resource-Policy keeps our answers from it.
        assert browser.run(fetch, site.url + path, blind) == "rejected: TypeError"
        headers = {"X-CSRF-Token": "x"}
        asking = {"method": "POST", "credentials": "include", "headers": headers}
        assert browser.run(fetch, site.url + path, asking) == "rejected: TypeError"
    assert len(site.reached("/api/")) == before
    browser.open(site.url)
    browser.wait_for(lambda: browser.text("status").startswith("Signed in as fetch."), "no change")


OPEN = """
const socket = new WebSocket(args[0]);
return await new Promise((told) => {
  socket.onopen = () => socket.send("hello");
  socket.onmessage = (event) => { told(event.data); socket.close(); };
  socket.onclose = () => told("refused");
});"""


@pytest.mark.parametrize("where", ["same_site", "cross_site"])
def test_a_socket_of_a_strange_page_is_never_opened(
    browser: Browser, site: Site, where: str
) -> None:
    """No CORS holds a WebSocket back: the browser sends the handshake with the cookie, and
    the page would read and say whatever its visitor may."""
    sign_in(browser, site, f"socket.{where}@example.com".replace("_", "-"))
    sockets = site.url.replace("http:", "ws:")
    assert browser.run(OPEN, f"{sockets}/socket/own-{where}") == "hello"
    browser.open(getattr(site.stranger, where))
    assert browser.run(OPEN, f"{sockets}/socket/strange-{where}") == "refused"
    # Where strangers may open one, they get it only as long as no cookie comes along.
    told = browser.run(OPEN, f"{sockets}/open-socket/strange-{where}")
    assert told == ("refused" if where == "same_site" else "hello")
    reached = {path: who for path, who in site.sockets if path.endswith(where)}
    assert reached.pop(f"/socket/own-{where}")
    assert reached == ({} if where == "same_site" else {f"/open-socket/strange-{where}": None})


@pytest.mark.parametrize("where", ["same_site", "cross_site"])
def test_an_image_of_a_strange_page_gets_the_anonymous_answer(
    browser: Browser, site: Site, where: str
) -> None:
    sign_in(browser, site, f"image.{where}@example.com".replace("_", "-"))
    load = "const image = new Image(); image.src = args[0]; await new Promise((r) => { image.onload = image.onerror = r; })"
    own, strange = f"/pictures/own-{where}", f"/pictures/strange-{where}"
    browser.run(load, site.url + own)
    browser.open(getattr(site.stranger, where))
    browser.run(load, site.url + strange)
    assert _told(site, own)
    assert not _told(site, strange)


def test_a_link_from_elsewhere_opens_the_page_signed_in(browser: Browser, site: Site) -> None:
    sign_in(browser, site, "link@example.com")
    site.stranger.pages["/link"] = f'<!doctype html><a id="a" href="{site.url}/api/link">go</a>'
    browser.open(f"{site.stranger.cross_site}/link")
    browser.driver.find_element("id", "a").click()
    browser.wait_for(lambda: "X-Auth-User-Id" in browser.page(), "the answer to the signed-in")


def test_a_listed_origin_of_the_same_site_calls_with_the_cookie(
    browser: Browser, site: Site
) -> None:
    sign_in(browser, site, "friend@example.com")
    fetch = "return await (await fetch(args[0], args[1])).text()"
    call = {"method": "POST", "credentials": "include"}
    browser.open(site.friend.same_site)
    seen = json.loads(browser.run(fetch, f"{site.url}/shared/x", call))
    assert any(name == "X-Auth-User-Id" for name, _ in seen["fields"])
    assert browser.run(fetch, f"{site.url}/api/x", call) == "rejected: TypeError"
    browser.open(site.stranger.same_site)
    assert browser.run(fetch, f"{site.url}/shared/x", call) == "rejected: TypeError"


def _told(site: Site, path: str) -> list[str]:
    (seen,) = site.reached(path)
    return [value for name, value in seen["fields"] if name == "X-Auth-User-Id"]
