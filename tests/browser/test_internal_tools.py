"""`examples/internal-tools`, pages made on the server, in a real Chromium: a person's first days.

Nobody sees JSON on the way, and the application knows nothing of signing in.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyotp
import pytest
from selenium.webdriver.common.by import By

from tests.browser.driving import NEEDS_CHROMIUM, WITHIN_S, Browser, chromium
from tests.e2e.dev_process import GATEWAY, REPOSITORY, Dev, Ports, environment_of, running
from tests.ports import free_port
from tests.servers import end_with_parent, wait_until

pytestmark = [pytest.mark.slow, NEEDS_CHROMIUM]

EXAMPLE = REPOSITORY / "examples" / "internal-tools"
EMAIL, PASSWORD = "olga@example.com", "correct horse 7 battery"
CODE_S = 30
"""A code of the next step is taken too, as the clock of a phone may be ahead."""


@dataclass
class Tools:
    dev: Dev

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.dev.ports.public}"

    def grant(self, role: str) -> None:
        done = subprocess.run(
            [GATEWAY, "roles", "grant", EMAIL, role],
            cwd=self.dev.folder,
            env=environment_of(self.dev.ports),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr

    def mailed_link(self, page: str) -> str:
        """The link to `page` in the outbox; a letter is written after its answer."""
        token = re.search(r"^Admin token +(\S+)", self.dev.printed, re.M)
        assert token is not None
        found: list[str] = []

        def arrived() -> bool:
            asked = urllib.request.Request(
                f"http://127.0.0.1:{self.dev.ports.admin}/admin/api/outbox",
                headers={"Authorization": f"Bearer {token[1]}"},
            )
            with urllib.request.urlopen(asked, timeout=WITHIN_S) as answer:
                text = answer.read().decode()
            found.extend(re.findall(rf"{re.escape(self.url + page)}\?[\w=.~-]+", text))
            return bool(found)

        wait_until(arrived, WITHIN_S, f"a link to {page}")
        return found[0]


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tools]:
    folder, ports, app = tmp_path_factory.mktemp("tools"), Ports.free(), free_port()
    shutil.copytree(EXAMPLE / "policies", folder / "policies")
    routes = (EXAMPLE / "routes.yaml").read_text("utf-8")
    assert "127.0.0.1:9200" in routes
    (folder / "routes.yaml").write_text(routes.replace("9200", str(app)), "utf-8")
    with (folder / "app.log").open("wb") as log:
        served = subprocess.Popen(
            [sys.executable, "-m", "flask", "--app", EXAMPLE / "app.py", "run", "--port", str(app)],
            stdout=log,
            stderr=subprocess.STDOUT,
            preexec_fn=end_with_parent,
        )
        try:
            with running(folder, ports, GATEWAY_EMAIL_VERIFICATION="required") as dev:
                yield Tools(dev)
        finally:
            served.terminate()
            served.wait()


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    with chromium(tmp_path / "profile") as opened:
        yield opened


class Person:
    """Reads titles and presses what is offered; whatever is shown is never JSON."""

    def __init__(self, browser: Browser) -> None:
        self.browser = browser

    def sees(self, title: str, text: str = "") -> None:
        def shown() -> bool:
            return title in self.browser.driver.title and text in self.browser.page()

        self.browser.wait_for(shown, f"{title}: {text}")
        assert "{" not in self.browser.page()

    def follows(self, link: str) -> None:
        self.browser.driver.find_element(By.LINK_TEXT, link).click()

    def gives(self, **fields: str) -> None:
        for name, text in fields.items():
            self.browser.fill_in(name, text)

    def signs_in(self, email: str = EMAIL) -> None:
        self.sees("Sign in –")
        self.gives(email=email, password=PASSWORD)
        self.browser.press("Sign in")

    def signs_out(self) -> None:
        self.follows("Sign out")
        self.sees("Sign out –")
        self.browser.press("Sign out")
        self.sees("–", "You have signed out.")


def test_a_persons_first_days(browser: Browser, tools: Tools) -> None:
    person, dashboards = Person(browser), f"{tools.url}/grafana/d/1"
    browser.open(dashboards)
    person.sees("Sign in –")
    person.follows("Create an account")
    person.sees("Create an account –")
    person.gives(email=EMAIL, password=PASSWORD)
    browser.press("Create account")
    person.sees("Look into your mailbox –")
    browser.open(tools.mailed_link("/auth/ui/verify"))
    person.sees("Confirm your address –")
    person.gives(password=PASSWORD)
    browser.press("Confirm")
    person.sees("Sign in –", "Your address is confirmed.")

    # Signed in, and led back: to a page that is for staff.
    browser.open(dashboards)
    person.signs_in()
    person.sees("Access denied –", "Ask whoever runs this service.")
    assert browser.driver.current_url == dashboards
    tools.grant("sre")
    browser.open(dashboards)
    person.sees("Dashboard 1", f"{EMAIL}\n")
    person.sees("Dashboard 1", "Your role is Viewer.")

    # What asks for a second factor leads to where one is added, and then asks for it.
    deploys = f"{tools.url}/deploys/checkout"
    browser.open(deploys)
    person.sees("Deploys of checkout", "Not deployed yet.")
    browser.press("Deploy")
    person.sees("Confirm that it is you –", "you have none yet")
    person.follows("Set up a second factor")
    person.sees("Your account –")
    browser.press("Set up an authenticator app")
    person.sees("Set up an authenticator app –")
    secret = browser.driver.find_element(By.CSS_SELECTOR, "p > code").text.replace(" ", "")
    used_at = time.time()
    person.gives(code=pyotp.TOTP(secret).at(used_at))
    browser.press("Confirm")
    person.sees("–", "recovery codes")
    browser.open(deploys)
    browser.press("Deploy")
    person.sees("Deploys of checkout", f"Deployed by {EMAIL}.")

    # From now on the factor belongs to the sign-in, and what it opens is open at once.
    person.signs_out()
    browser.open(deploys)
    person.signs_in()
    person.sees("Confirm that it is you –")
    person.gives(code=pyotp.TOTP(secret).at(used_at + CODE_S))
    browser.press("Confirm")
    person.sees("Deploys of checkout", f"Deployed by {EMAIL}.")
    assert browser.driver.current_url == deploys
    browser.press("Deploy")
    person.sees("Deploys of checkout", f"Deployed by {EMAIL}.")


def test_what_is_concealed_is_a_page_like_any_that_is_not_there(
    browser: Browser, tools: Tools
) -> None:
    email = "stella@example.com"
    made = subprocess.run(
        [GATEWAY, "users", "create", email, "--verified", "--role", "staff", "--password-stdin"],
        cwd=tools.dev.folder,
        env=environment_of(tools.dev.ports),
        input=PASSWORD,
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    person = Person(browser)
    browser.open(f"{tools.url}/")
    person.signs_in(email)
    person.sees("Tools", email)
    person.follows("Payroll of June")
    person.sees("Page not found –")
    browser.open(f"{tools.url}/nothing/here")
    person.sees("Page not found –")
