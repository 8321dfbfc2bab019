"""The operator's console in a real Chromium: every page judged by axe-core, light and dark, narrow and
wide, worked with and without a mouse; and nothing that its policy refuses.

`make screenshots` writes the pictures of docs/operations/console.md.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests.browser.driving import NEEDS_CHROMIUM, chromium
from tests.browser.looks import Look, axe_script
from tests.contract.running import Running, started
from tests.ports import free_port

pytestmark = [NEEDS_CHROMIUM, pytest.mark.slow]

ROUTES = """\
version: 1
issuers:
  company:
    issuer: http://127.0.0.1:DEAD
    audience: api
upstreams:
  echo: {{targets: ["http://127.0.0.1:{port}"]}}
routes:
  - {{id: open, match: {{path: /open}}, auth: public, upstream: echo}}
  - {{id: ours, match: {{path: /ours}}, policy: signed-in, upstream: echo}}
  - id: tools
    match: {{prefix: /tools}}
    issuers: [company]
    resource_server: {{scopes: [tools:call]}}
    policy: signed-in
    upstream: echo
"""
PICTURES = {
    ("explain", "light", 1280): "explain.png",
    ("reach", "light", 1280): "reach.png",
    ("playground, tried", "light", 1280): "playground.png",
    ("live", "light", 1280): "live.png",
    ("one answer", "light", 1280): "answer.png",
    ("overview", "light", 1280): "overview.png",
    ("overview", "dark", 320): "overview-dark-narrow.png",
}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    routes = ROUTES.replace("DEAD", str(free_port()))
    with started(tmp_path_factory.mktemp("console") / "g", routes=routes) as running:
        yield running


@pytest.fixture
def look(tmp_path: Path, gateway: Running) -> Iterator[Look]:
    with chromium(tmp_path / "profile") as opened:
        yield Look(
            opened,
            f"http://127.0.0.1:{gateway.admin_port}",
            javascript=True,
            axe=axe_script(),
            pictures=PICTURES,
            folder=os.environ.get("SCREENSHOTS_CONSOLE"),
        )


def token_of(gateway: Running) -> str:
    return (gateway.folder / "data" / "admin-token").read_text().strip()


def sign_in(look: Look, gateway: Running) -> None:
    look.open("/admin")
    look.fill(token=token_of(gateway))
    look.press("Sign in")


def test_the_address_that_dev_prints_signs_in(look: Look, gateway: Running) -> None:
    look.open(f"/admin/sign-in#token={token_of(gateway)}")
    look.browser.wait_for(lambda: "Sign out" in look.browser.page(), "the console")
    assert "#" not in look.browser.driver.current_url
    look.browser.driver.back()
    assert token_of(gateway) not in look.browser.driver.current_url


def test_it_is_worked_by_the_keyboard_alone(look: Look, gateway: Running) -> None:
    look.open("/admin")
    active = look.browser.driver.switch_to
    active.active_element.send_keys(Keys.TAB)
    assert active.active_element.text == "To the content"
    while active.active_element.get_attribute("id") != "token":
        active.active_element.send_keys(Keys.TAB)
    active.active_element.send_keys(token_of(gateway), Keys.ENTER)
    look.browser.wait_for(lambda: "Sign out" in look.browser.page(), "the console")
    active.active_element.send_keys(Keys.TAB, Keys.ENTER)
    assert active.active_element.get_attribute("id") == "main"


def test_a_wrong_token_is_told_where_it_was_typed(look: Look) -> None:
    look.open("/admin")
    look.judge("sign-in")
    look.fill(token="wrong")
    look.press("Sign in")
    assert look.browser.text("problem") == "That is not the token of this gateway."
    look.judge("sign-in, wrong token")


def test_it_shows_each_issuer_and_whose_tokens_a_route_takes(look: Look, gateway: Running) -> None:
    sign_in(look, gateway)
    look.browser.wait_for(
        lambda: "connection refused" in look.browser.text("issuers"), "the issuer's last error"
    )
    shown = look.browser.text("issuers")
    assert shown.startswith("company ")
    assert "0 never" in shown
    routes = dict(line.split(" ", 1) for line in look.browser.text("routes").splitlines())
    assert "required own signed-in echo" in routes["ours"]
    assert "required company, for /tools with tools:call signed-in echo" in routes["tools"]
    assert routes["open"].endswith("public echo")
    look.judge("overview")


def test_htmx_brings_what_has_changed_without_a_reload(look: Look, gateway: Running) -> None:
    sign_in(look, gateway)
    before = look.browser.driver.find_element(By.ID, "workers")
    look.browser.run("document.body.dataset.mark = 'same page'; return null;")
    look.browser.wait_for(
        lambda: look.browser.driver.find_element(By.ID, "workers") != before, "a new table"
    )
    assert look.browser.run("return document.body.dataset.mark;") == "same page"
    assert look.refused_by_policy() == []


def test_refusals_appear_as_they_happen_and_are_explained(look: Look, gateway: Running) -> None:
    sign_in(look, gateway)
    look.open("/admin/live")
    look.browser.wait_for(lambda: "Live:" in look.browser.text("state"), "the stream")
    for path in ("/ours", "/tools/call", "/nowhere?secret=1"):
        gateway.call("GET", path)
    look.browser.wait_for(lambda: "route_unknown" in look.browser.text("answers"), "a refusal")
    assert "secret" not in look.browser.page()
    look.browser.driver.find_element(By.LINK_TEXT, "route_unknown").click()
    look.browser.wait_for(lambda: "What happened" in look.browser.page(), "its explanation")
    assert "/admin/live" in look.browser.driver.current_url
    look.judge("live")
    look.browser.driver.find_element(By.LINK_TEXT, "no_credential").click()
    look.browser.wait_for(lambda: "Judged again" in look.browser.page(), "another explanation")
    answer = look.browser.driver.find_element(By.LINK_TEXT, "no_credential").get_attribute("href")
    assert answer is not None
    look.browser.open(answer)
    look.judge("one answer")


def test_a_call_is_explained_in_a_form(look: Look, gateway: Running) -> None:
    sign_in(look, gateway)
    look.follow("Explain a call")
    look.fill(url="/ours", roles="viewer")
    look.press("Explain")
    assert "Allowed" in look.browser.text("told")
    look.judge("explain")


def test_roles_and_routes_stand_beside_each_other(look: Look, gateway: Running) -> None:
    sign_in(look, gateway)
    look.follow("Who can reach what")
    look.fill(roles="viewer, manager")
    look.press("Show")
    rows = dict(line.split(" ", 1) for line in look.browser.text("results").splitlines())
    assert rows["open"].endswith("yes yes yes")
    assert rows["ours"].split()[-3:] == ["no", "yes", "yes"]
    assert "tokens of others" in rows["tools"]
    look.judge("reach")


def test_an_edit_is_tried_before_it_is_saved_anywhere(look: Look, gateway: Running) -> None:
    before = (gateway.folder / "routes.yaml").read_text()
    sign_in(look, gateway)
    look.follow("Policy playground")
    look.judge("playground")
    edited = before.replace("path: /ours}, policy: signed-in", "path: /ours}, auth: public")
    assert edited != before
    look.browser.run("document.getElementById('text').value = args[0]; return null;", edited)
    look.press("Try it")
    assert "Somebody gains access." in look.browser.text("trial")
    assert "/ours" in look.browser.text("changes")
    assert (gateway.folder / "routes.yaml").read_text() == before
    look.judge("playground, tried")


def test_an_account_is_led_to_sign_in_and_comes_back(tmp_path: Path) -> None:
    port = free_port()
    url, email, password = f"http://localhost:{port}", "ada@example.com", "correct horse 7 battery"
    public = free_port()
    with (
        started(
            tmp_path / "g",
            routes=ROUTES.replace("DEAD", "1"),
            GATEWAY_LISTEN=f"127.0.0.1:{public}",
            GATEWAY_PUBLIC_URL=f"http://localhost:{public}",
            GATEWAY_ADMIN_LISTEN=f"127.0.0.1:{port}",
            GATEWAY_ADMIN_URL=url,
        ) as gateway,
        chromium(tmp_path / "profile", "--lang=en") as browser,
    ):
        words = ("users", "create", email, "--verified", "--role", "admin", "--password-stdin")
        assert gateway.cli(*words, stdin=password).returncode == 0
        seen = Look(browser, url, javascript=True, axe=axe_script())
        seen.open("/admin")
        assert browser.driver.current_url.startswith(f"http://localhost:{public}/auth/ui/sign-in")
        seen.fill(email=email, password=password)
        seen.press("Sign in")
        assert browser.driver.current_url == f"{url}/admin"
        assert email in browser.page()
        seen.press("Sign out")
        assert "You are signed out." in browser.page()
        seen.judge("signed out")
        seen.follow("Sign in with an account")
        assert "/auth/ui/sign-in" in browser.driver.current_url


def test_who_signs_out_sees_nothing_any_more(look: Look, gateway: Running) -> None:
    sign_in(look, gateway)
    look.press("Sign out")
    look.open("/admin")
    assert "Local token" in look.browser.page()
    look.browser.driver.back()
    assert "Workers" not in look.browser.page()
