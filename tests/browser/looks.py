"""What is asked of each page that people see: that everybody can use it, however it is looked at."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.common.by import By

from tests.browser.driving import Browser
from tests.kept import kept
from tests.node_packages import lacking

AXE = Path(__file__).parent / "axe"
INSTALLED = kept("axe")
LIGHT_NARROW, LIGHT_WIDE = ("light", 320), ("light", 1280)
LOOKS = (LIGHT_NARROW, LIGHT_WIDE, ("dark", 320), ("dark", 1280))
MEASURES = """
const small = [...document.querySelectorAll("button, input, select, .button, .links a")].filter((one) => {
  const box = one.getBoundingClientRect();
  return one.type !== "hidden" && box.width > 0 && (box.height < 44 || box.width < 44);
});
return {
  overflows: document.documentElement.scrollWidth > window.innerWidth,
  small: small.map((one) => one.outerHTML),
  styled: getComputedStyle(document.body).margin === "0px",
};
"""


@dataclass
class Look:
    """A browser at the pages, and all that is asked of each."""

    browser: Browser
    url: str
    """Without a path."""
    javascript: bool
    axe: str
    """The text of axe-core."""
    pictures: Mapping[tuple[str, str, int], str] = field(default_factory=dict)
    """The name of the picture that is taken of a page, a colour scheme and a width."""
    folder: str | None = None
    """Where pictures go; None takes none."""
    page_bytes: int = 30_000

    def open(self, path: str) -> None:
        self.browser.open(f"{self.url}{path}")

    def command(self, name: str, **words: Any) -> None:
        self.browser.driver.execute_cdp_cmd(name, words)

    def show(self, scheme: str, width: int) -> None:
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.command("Emulation.setEmulatedMedia", features=features)
        self.command(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=800,
            deviceScaleFactor=1,
            mobile=False,
        )

    def judge(self, what: str) -> None:
        """Everybody can use this page, however it is looked at."""
        assert len(self.browser.driver.page_source.encode()) < self.page_bytes, what
        for scheme, width in LOOKS:
            self.show(scheme, width)
            found = self.browser.driver.execute_script(MEASURES)
            assert found == {"overflows": False, "small": [], "styled": True}, (what, width, found)
            assert self._violations() == [], (what, scheme, width)
            self._take_picture(what, scheme, width)
        assert self.refused_by_policy() == [], what

    def refused_by_policy(self) -> list[str]:
        """What the browser says that it did not run or load."""
        told = self.browser.driver.execute("getLog", {"type": "browser"})["value"]
        return [one["message"] for one in told if one["source"] == "security"]

    def _take_picture(self, what: str, scheme: str, width: int) -> None:
        name = self.pictures.get((what, scheme, width))
        if self.folder and name:
            Path(self.folder).mkdir(exist_ok=True)
            assert self.browser.driver.save_screenshot(str(Path(self.folder) / name))

    def _violations(self) -> list[str]:
        # axe waits for promises, which need scripts to run.
        self.command("Emulation.setScriptExecutionDisabled", value=False)
        self.browser.driver.execute_script(self.axe)
        found = self.browser.run(
            "const told = await axe.run(document, {resultTypes: ['violations']});"
            "return told.violations.map((one) => one.id + ': ' + one.nodes.map((n) => n.html));"
        )
        self.command("Emulation.setScriptExecutionDisabled", value=not self.javascript)
        assert isinstance(found, list), found
        return found

    def fill(self, **values: str) -> None:
        for element_id, value in values.items():
            self.browser.fill_in(element_id.replace("__", "-"), value)

    def press(self, label: str) -> None:
        """And look at the page that follows."""
        self._leave(lambda: self.browser.press(label))

    def follow(self, link: str) -> None:
        self._leave(self.browser.driver.find_element(By.LINK_TEXT, link).click)

    def _leave(self, act: Callable[[], None]) -> None:
        before = self.browser.driver.find_element(By.TAG_NAME, "html")

        def gone() -> bool:
            try:
                before.is_enabled()
            except StaleElementReferenceException:
                return True
            return False

        act()
        self.browser.wait_for(gone, "another page")

    def path(self) -> str:
        return self.browser.driver.current_url.removeprefix(self.url)


def axe_script() -> str:
    """The text of axe-core; a test without it is skipped."""
    if lacks := lacking(AXE, INSTALLED):
        pytest.skip(f"axe-core is not here: {lacks}")
    return (INSTALLED / "node_modules/axe-core/axe.min.js").read_text("utf-8")
