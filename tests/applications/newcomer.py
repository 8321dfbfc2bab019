"""From `git clone` to a signed-in JupyterLab, as docs/applications prints it, with the seconds.

    python -m tests.applications.newcomer

The commands and files are those of the two pages, their ports included; home is empty, and there is
no uv.  What a person types is done at once: the seconds are those of waiting.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from selenium.webdriver.common.by import By

from tests.applications.browser import fill_in
from tests.applications.recipe import ROOT, Recipe, blocks_of
from tests.browser.driving import chromium

WITHIN_S = 120.0
SERVING = {"program": "8888", "gateway": "8080"}
_KEPT = re.compile(r"SSL_CERT|PIP_|UV_DEFAULT_INDEX|https?_proxy|no_proxy", re.I)


def bare_environment(home: Path) -> dict[str, str]:
    """Of a machine with Python and package indexes."""
    kept = {name: value for name, value in os.environ.items() if _KEPT.match(name)}
    return {
        **kept,
        "HOME": str(home),
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "AUTHGATE_OWN_UV": "1",
    }


def after_lines(
    lines: str, folder: Path, environment: dict[str, str]
) -> tuple[Path, dict[str, str]]:
    """Runs lines in a shell; the folder and the environment that they leave."""
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", f"{lines}\nprintf '\\0'; env -0 -u _; pwd"],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        check=True,
    )
    _, *pairs, where = done.stdout.split(b"\0")
    left = dict(pair.decode().split("=", 1) for pair in pairs)
    return Path(where.decode().strip()), left


@contextmanager
def serving(recipe: Recipe) -> Iterator[None]:
    try:
        for title, port in SERVING.items():
            recipe.start(title, port)
        yield
    finally:
        recipe.end()


def main() -> None:
    began_at = time.monotonic()

    def told(what: str) -> None:
        print(f"{time.monotonic() - began_at:6.1f} s  {what}", flush=True)

    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (folder / "home").mkdir()
        subprocess.run(["git", "clone", "--quiet", ROOT, folder / "authgate"], check=True)
        told("cloned")
        pages = folder / "authgate" / "docs" / "applications"
        section = (pages / "index.md").read_text("utf-8").partition("```console\n")[2]
        lines = "\n".join(re.findall(r"^\$ (.*)$", section.partition("```")[0], re.M))
        where, environment = after_lines(
            lines, folder / "authgate", bare_environment(folder / "home")
        )
        told("the gateway set up")
        blocks = blocks_of((pages / "jupyterlab.md").read_text("utf-8"))
        lab = Recipe("jupyterlab", where, blocks, {p: p for p in SERVING.values()}, environment)
        lab.run("install")
        told("JupyterLab installed")
        lab.write_files()
        stack.enter_context(serving(lab))
        told("two commands serve")
        lab.run("account")
        told("an account made")
        browser = stack.enter_context(chromium(folder / "profile"))
        browser.open(f"{lab.url}/jupyter/")
        fill_in(browser)
        told("signed in")
        card = "//*[@data-category='Notebook']//*[contains(@title, 'Python 3')]"
        browser.wait_for(
            lambda: browser.driver.find_element(By.XPATH, card).is_displayed(), "the launcher"
        )
        told("JupyterLab is there")


if __name__ == "__main__":
    main()
