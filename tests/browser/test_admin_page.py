"""The operator's page, in a real browser: what it shows of whose tokens are taken."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browser.driving import NEEDS_CHROMIUM, Browser, chromium
from tests.contract.running import Running, free_port, started

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


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    routes = ROUTES.replace("DEAD", str(free_port()))
    with started(tmp_path_factory.mktemp("admin") / "g", routes=routes) as running:
        yield running


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    with chromium(tmp_path / "profile") as opened:
        yield opened


def test_it_shows_each_issuer_and_whose_tokens_a_route_takes(
    browser: Browser, gateway: Running
) -> None:
    token = (gateway.folder / "data" / "admin-token").read_text().strip()
    browser.open(f"http://127.0.0.1:{gateway.admin_port}/admin#token={token}")
    browser.wait_for(
        lambda: "connection refused" in browser.text("issuers"), "the issuer's last error"
    )
    shown = browser.text("issuers")
    assert shown.startswith("company ")
    assert "0 never" in shown
    routes = dict(line.split(" ", 1) for line in browser.text("routes").splitlines())
    assert "required own signed-in echo" in routes["ours"]
    assert "required company, for /tools with tools:call signed-in echo" in routes["tools"]
    assert routes["open"].endswith("public echo")
    # The page itself is a refusal that asks for the token; nothing else is wrong with it.
    (entry,) = browser.driver.get_log("browser")  # type: ignore[no-untyped-call]
    assert "401" in entry["message"]
