"""A stranger at the address that `make run` prints: in a browser, having read nothing.

    python -m tests.browser.newcomer FILE SECONDS

FILE holds what `make run` has printed after so many seconds; the clicks and seconds to a signed-in
page are told.
"""

from __future__ import annotations

import re
import secrets
import sys
import tempfile
import time
from pathlib import Path

from selenium.webdriver.common.by import By

from tests.browser.driving import Browser, chromium

CLICKS_AT_MOST = 3
WITHIN_S = 60.0


class Newcomer:
    """Opens what was printed, fills in what a page asks for, and clicks on what it offers."""

    def __init__(self, browser: Browser, printed: str) -> None:
        self.browser = browser
        self.address = _only(r"^Open +(\S+)", printed)[1]
        self.demo_user = _only(r"^Demo user +(\S+) +(\S+)", printed)
        self.began_at = time.monotonic()
        self.clicks = 0

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began_at

    def open(self) -> None:
        """The address that was printed: a click, in most terminals."""
        self.clicks += 1
        self.browser.open(self.address)
        self.browser.wait_for(lambda: self.browser.driver.title.startswith("Sign in"), "the page")

    def click(self, label: str) -> None:
        self.clicks += 1
        words = f"[normalize-space()='{label}']"
        self.browser.driver.find_element(By.XPATH, f"//button{words}|//a{words}").click()

    def fill_in(self, email: str, password: str) -> None:
        self.browser.wait_for(lambda: self.browser.text("email") == "", "the form")
        self.browser.fill_in("email", email)
        self.browser.fill_in("password", password)

    def register(self) -> str:
        """The address that is signed in then."""
        email = f"new-{secrets.token_hex(3)}@example.com"
        self.open()
        self.click("Create an account")
        self.browser.wait_for(lambda: self.browser.driver.title.startswith("Create"), "the form")
        self.fill_in(email, f"violet-{secrets.token_hex(6)}")
        self.click("Create account")
        self._arrive(email)
        return email

    def sign_in(self) -> str:
        """As the demo user that was printed."""
        self.open()
        self.fill_in(self.demo_user[1], self.demo_user[2])
        self.click("Sign in")
        self._arrive(self.demo_user[1])
        return self.demo_user[1]

    def _arrive(self, email: str) -> None:
        self.browser.wait_for(
            lambda: self.browser.text("who") == f"Signed in as {email}.", "the application"
        )
        assert self.browser.driver.current_url == self.address


def _only(pattern: str, printed: str) -> re.Match[str]:
    found = re.search(pattern, printed, re.M)
    assert found is not None, printed
    return found


def main(printed: str, started_s: float) -> None:
    with tempfile.TemporaryDirectory() as folder, chromium(Path(folder) / "profile") as browser:
        newcomer = Newcomer(browser, printed)
        newcomer.register()
        took_s = started_s + newcomer.seconds
    print(f"make run to a signed-in page: {newcomer.clicks} clicks, {took_s:.1f} s")
    assert newcomer.clicks <= CLICKS_AT_MOST
    assert took_s < WITHIN_S


if __name__ == "__main__":
    main(Path(sys.argv[1]).read_text("utf-8"), float(sys.argv[2]))
