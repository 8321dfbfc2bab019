"""A client of MCP that is a page of another origin finds its way from the 401 to the metadata."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browser.driving import NEEDS_CHROMIUM, Browser, Stranger, chromium
from tests.contract.running import Running, started

pytestmark = [pytest.mark.slow, NEEDS_CHROMIUM]

ROUTES = """\
version: 1
issuers: {{idp: {{issuer: "http://127.0.0.1:{dead}", audience: tools}}}}
upstreams: {{echo: {{targets: ["http://127.0.0.1:{port}"]}}}}
cors:
  pages:
    origins: ["*"]
    methods: [GET, POST, DELETE]
    headers: [authorization, content-type, mcp-protocol-version, mcp-session-id]
    expose: [www-authenticate, mcp-session-id]
defaults: {{policy: signed-in, upstream: echo, issuers: [idp]}}
routes:
  - {{id: mcp, match: {{prefix: /mcp}}, cors: pages, resource_server: {{scopes: [tools:call]}}}}
  - {{id: silent, match: {{prefix: /silent}}, resource_server: {{}}}}
"""
FIND = """
    const [url] = args
    const headers = {'Content-Type': 'application/json', 'MCP-Protocol-Version': '2025-11-25'}
    const refused = await fetch(url, {method: 'POST', headers, body: '{}'})
    const challenge = refused.headers.get('WWW-Authenticate')
    const [, metadata] = challenge.match(/resource_metadata="([^"]+)"/)
    const found = await fetch(metadata, {headers: {'MCP-Protocol-Version': '2025-11-25'}})
    return [refused.status, found.status, await found.json()]
"""
READ = "const found = await fetch(args[0], {credentials: args[1]}); return (await found.json()).resource"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with started(tmp_path_factory.mktemp("pages") / "g", routes=ROUTES) as running:
        yield running


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A page of another site than the gateway."""
    profile: Path = tmp_path_factory.mktemp("browser")
    with Stranger() as strange, chromium(profile) as browser:
        browser.open(strange.cross_site)
        yield browser
        strange.shutdown()


def test_a_page_finds_the_authorization_server_from_the_url_alone(
    page: Browser, gateway: Running
) -> None:
    url = f"http://127.0.0.1:{gateway.port}/mcp"
    refused, found, document = page.run(FIND, url)
    assert (refused, found) == (401, 200)
    assert document["resource"] == url
    assert document["scopes_supported"] == ["tools:call"]


def test_the_metadata_are_read_where_the_route_itself_lets_no_page_in(
    page: Browser, gateway: Running
) -> None:
    origin = f"http://127.0.0.1:{gateway.port}"
    metadata = f"{origin}/.well-known/oauth-protected-resource/silent"
    assert page.run(READ, metadata, "omit") == f"{origin}/silent"
    assert page.run(READ, f"{origin}/silent", "omit") == "rejected: TypeError"


def test_nothing_is_read_with_the_cookie(page: Browser, gateway: Running) -> None:
    metadata = f"http://127.0.0.1:{gateway.port}/.well-known/oauth-protected-resource/mcp"
    assert page.run(READ, metadata, "include") == "rejected: TypeError"
