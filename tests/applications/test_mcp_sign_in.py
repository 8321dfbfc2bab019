"""docs/applications/mcp-sign-in.md, with oidc-provider, and with the clients of the mcp package and of
@modelcontextprotocol/sdk, which are given the URL alone."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.applications.recipe import ROOT, WITHIN_S, Recipe, followed
from tests.e2e.processes import until
from tests.node_packages import lacking
from tests.providers.oidc_provider import HERE, INSTALLED
from tests.providers.visitor import Visitor, fetch

pytestmark = pytest.mark.slow

BROWSER = """\
#!/bin/sh
PYTHONPATH={root} exec {python} -m tests.providers.visitor {issuer} ada "$1"
"""

REFUSED = r'"event\.reason": ?"insufficient_scope"'
"""In the access log."""


@pytest.fixture(scope="module")
def clerk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recipe]:
    programs = ["node:nodejs", "npm:npm"]
    with followed("mcp-sign-in", tmp_path_factory.mktemp("mcp"), programs=programs) as page:
        # Whoever is to sign in does so without a screen.
        issuer = f"http://127.0.0.1:{page.ports['3000']}"
        browser = page.folder / "browser"
        browser.write_text(BROWSER.format(root=ROOT, python=sys.executable, issuer=issuer))
        browser.chmod(0o755)
        page.environment["BROWSER"] = f"{browser} %s &"
        page.follow("provider:3000", "program:8000", "gateway")
        yield page


@pytest.fixture(autouse=True)
def without_tokens(clerk: Recipe) -> None:
    (clerk.folder / "tokens.json").unlink(missing_ok=True)


def visitor(clerk: Recipe) -> Visitor:
    return Visitor(f"http://127.0.0.1:{clerk.ports['3000']}")


def registered(clerk: Recipe) -> tuple[str, str, str]:
    """A client of its own: its id, its secret, and where it is sent back to."""
    back = "http://127.0.0.1:9/back"
    words = {"redirect_uris": [back], "application_type": "native"}
    issuer = f"http://127.0.0.1:{clerk.ports['3000']}"
    fields = {"Content-Type": "application/json"}
    made = fetch(f"{issuer}/reg", json.dumps(words).encode(), fields).json
    return made["client_id"], made["client_secret"], back


def token(clerk: Recipe, **words: str) -> str:
    client_id, secret, back = registered(clerk)
    answer = visitor(clerk).sign_in(client_id, back, "ada", secret=secret, **words)
    return str(answer["access_token"])


def initialize(clerk: Recipe, access_token: str) -> tuple[int, str, dict[str, object]]:
    """The first call of a client: status, challenge and problem."""
    fields = {"Authorization": f"Bearer {access_token}", "Content-Type": "application/json"}
    answer = fetch(f"{clerk.url}/mcp", b"{}", fields)
    return answer.status, answer.headers.get("WWW-Authenticate", ""), answer.json


def test_the_client_of_the_page_finds_its_way_to_a_tool(clerk: Recipe) -> None:
    assert clerk.run("client").stdout == "company:ada\n"


def test_the_client_of_npm_finds_it_too(clerk: Recipe, tmp_path: Path) -> None:
    if lacks := lacking(HERE, INSTALLED):
        pytest.skip(f"the SDK of MCP is not here: {lacks}")
    done = subprocess.run(
        ["node", "mcp-client.js", f"{clerk.url}/mcp"],
        cwd=INSTALLED,
        env=clerk.environment,
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "company:ada\n"), done.stderr


def test_a_token_without_the_scope_is_told_so_and_the_client_asks_again(clerk: Recipe) -> None:
    resource = f"{clerk.url}/mcp"
    without = token(clerk, resource=resource)
    status, challenge, problem = initialize(clerk, without)
    assert (status, problem["reason"]) == (403, "insufficient_scope")
    assert problem["missing_scopes"] == ["tools:call"]
    assert 'error="insufficient_scope", scope="tools:call", resource_metadata="' in challenge
    tokens = {"access_token": without, "token_type": "Bearer", "scope": ""}
    (clerk.folder / "tokens.json").write_text(json.dumps(tokens))
    assert clerk.run("client").stdout == "company:ada\n"
    # Refusals are written once a second.
    until(lambda: len(re.findall(REFUSED, clerk.log("gateway"))) == 2, 20)


def test_a_token_of_the_provider_that_is_for_nothing_here_is_refused(clerk: Recipe) -> None:
    opaque = token(clerk)
    status, challenge, problem = initialize(clerk, opaque)
    assert (status, problem["reason"]) == (401, "token_malformed")
    assert 'error="invalid_token"' in challenge
