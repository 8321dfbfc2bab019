"""A real Chromium, headless, with a profile of its own; and pages of strangers."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

WITHIN_S = 40.0
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
CHROMEDRIVER = shutil.which("chromedriver")
NEEDS_CHROMIUM = pytest.mark.skipif(
    not (CHROMIUM and CHROMEDRIVER),
    reason="no browser here: apt-get install chromium chromium-driver",
)

_FLAGS = (
    "--headless",
    "--no-sandbox",  # the suite may run as root, in a container
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-features=PasswordLeakDetection",
)


@contextmanager
def chromium(profile: Path, *flags: str) -> Iterator[Browser]:
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM or ""
    for flag in (*_FLAGS, *flags, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    driver = webdriver.Chrome(options, webdriver.ChromeService(CHROMEDRIVER))
    try:
        driver.set_script_timeout(WITHIN_S)
        driver.set_page_load_timeout(WITHIN_S)
        yield Browser(driver)
    finally:
        driver.quit()


class Browser:
    """What a person does: fill in, press, read, look at another tab."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver

    def open(self, url: str) -> None:
        self.driver.get(url)

    def new_tab(self, url: str) -> str:
        self.driver.switch_to.new_window("tab")
        self.open(url)
        return self.driver.current_window_handle

    def look_at(self, tab: str) -> None:
        self.driver.switch_to.window(tab)

    def text(self, element_id: str) -> str:
        return str(self.driver.find_element(By.ID, element_id).text)

    def fill_in(self, element_id: str, text: str) -> None:
        field = self.driver.find_element(By.ID, element_id)
        field.clear()
        field.send_keys(text)

    def press(self, label: str) -> None:
        self.driver.find_element(By.XPATH, f"//button[normalize-space()='{label}']").click()

    def page(self) -> str:
        return str(self.driver.find_element(By.TAG_NAME, "body").text)

    def run(self, script: str, *arguments: object) -> Any:
        """The value that an async function body returns, in the page."""
        wrapped = (
            "const done = arguments[arguments.length - 1];"
            f"(async (...args) => {{ {script} }})(...Array.from(arguments).slice(0, -1))"
            ".then(done, (error) => done('rejected: ' + error.name));"
        )
        return self.driver.execute_async_script(wrapped, *arguments)

    def wait_for(self, condition: Callable[[], object], what: str) -> None:
        WebDriverWait(self.driver, WITHIN_S, 0.05, ignored_exceptions=(Exception,)).until(
            lambda _: condition(), f"waited {WITHIN_S} s for {what}"
        )


class _Strange(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        text = self.server.pages.get(self.path, "<!doctype html><title>strange</title>")  # type: ignore[attr-defined]
        body = text.encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nobody reads it."""


class Stranger(ThreadingHTTPServer):
    """Serves pages of its own on `127.0.0.1` and, as another site, on `localhost`."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Strange)
        self.pages: dict[str, str] = {}
        self.same_site = f"http://127.0.0.1:{self.server_port}"
        self.cross_site = f"http://localhost:{self.server_port}"
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()
