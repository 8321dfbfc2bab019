"""From `gateway dev` to a signed-in page of the demo application, in a real Chromium."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from tests.browser.driving import NEEDS_CHROMIUM, Browser, chromium
from tests.browser.newcomer import CLICKS_AT_MOST, WITHIN_S, Newcomer
from tests.e2e.dev_process import Dev, Ports, lay_out, running

pytestmark = [pytest.mark.slow, NEEDS_CHROMIUM]


@dataclass
class Started:
    dev: Dev
    seconds: float


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Started]:
    folder, ports = tmp_path_factory.mktemp("dev"), Ports.free()
    lay_out(folder, ports)
    began_at = time.monotonic()
    with running(folder, ports) as dev:
        yield Started(dev, time.monotonic() - began_at)


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    with chromium(tmp_path / "profile") as opened:
        yield opened


@pytest.mark.parametrize("way", ["register", "sign_in"])
def test_a_stranger_is_signed_in_within_three_clicks_and_a_minute(
    browser: Browser, started: Started, way: str
) -> None:
    newcomer = Newcomer(browser, started.dev.printed)
    email = getattr(newcomer, way)()
    took_s = started.seconds + newcomer.seconds
    print(
        f"{way}: {newcomer.clicks} clicks; started in {started.seconds:.1f} s, in all {took_s:.1f} s"
    )
    assert newcomer.clicks <= CLICKS_AT_MOST
    assert took_s < WITHIN_S
    assert f"X-Auth-Email {email}" in browser.page()


def test_every_link_of_the_demo_leads_to_a_page(browser: Browser, started: Started) -> None:
    newcomer = Newcomer(browser, started.dev.printed)
    email = newcomer.register()
    for label, told in (
        ("An order of your own", "42.00 EUR"),
        ("An order of someone else", "You have no access to this page."),
        ("The catalogue", "Nobody is signed in."),
        ("Your account", "Sessions and devices"),
    ):
        browser.open(newcomer.address)
        newcomer.click(label)
        browser.wait_for(partial(_shows, browser, told), label)
        assert '{"' not in browser.page()
    browser.open(newcomer.address)
    assert browser.text("who") == f"Signed in as {email}."
    newcomer.click("Sign out")
    browser.wait_for(lambda: browser.driver.title.startswith("Sign out"), "the question")
    newcomer.click("Sign out")
    browser.wait_for(lambda: "You have signed out." in browser.page(), "the sign-out")
    browser.open(newcomer.address)
    browser.wait_for(lambda: browser.driver.title.startswith("Sign in"), "the page")


def _shows(browser: Browser, text: str) -> bool:
    return text in browser.page()
