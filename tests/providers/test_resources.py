"""Tokens that a real provider gave for one resource (RFC 8707), at the routes of several."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.running import Running, started
from tests.ports import free_port
from tests.providers import oidc_provider
from tests.providers.oidc_provider import OidcProvider, Setup, machine
from tests.providers.visitor import SECRET

pytestmark = pytest.mark.slow

API = "https://api.example.com/"
ROUTES = """\
version: 1
issuers:
  company: {{issuer: ISSUER, audience: "https://api.example.com/"}}
  asked:
    issuer: ASKED
    audience: nothing-else
    introspection: {{client_id: machine, client_secret: {{secret: asked}}}}
upstreams: {{echo: {{targets: ["http://127.0.0.1:{port}"]}}}}
defaults: {{policy: signed-in, upstream: echo, issuers: [company]}}
routes:
  - {{id: tools, match: {{prefix: /tools}}, resource_server: {{scopes: [tools:call]}}}}
  - id: tools.admin
    match: {{path: /tools/admin}}
    resource_server: {{path: /tools, scopes: [tools:call, tools:admin]}}
  - {{id: files, match: {{prefix: /files}}, resource_server: {{}}}}
  - {{id: hosted, match: {{host: tools.example.net, prefix: /tools}}, resource_server: {{}}}}
  - {{id: opaque, match: {{prefix: /opaque}}, issuers: [asked], resource_server: {{scopes: [read]}}}}
  - {{id: plain, match: {{path: /plain}}}}
  - {{id: plain.opaque, match: {{path: /plain/opaque}}, issuers: [asked]}}
"""


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def providers(
    tmp_path_factory: pytest.TempPathFactory, port: int
) -> Iterator[tuple[OidcProvider, OidcProvider]]:
    """One that signs its tokens, and one that has to be asked."""
    base = f"http://127.0.0.1:{port}"
    scopes = {"scope": "tools:call tools:admin read"}
    resources = {f"{base}{path}": scopes for path in ("/tools", "/files", "/tools/")}
    resources |= {API: scopes, f"http://tools.example.net:{port}/tools": scopes}
    signing = Setup(clients=(machine(),), resources=resources)
    opaque = {"scope": "read", "format": "opaque"}
    asked = Setup(clients=(machine(),), resources={f"{base}/opaque": opaque, API: opaque})
    folder = tmp_path_factory.mktemp("providers")
    with (
        oidc_provider.started(folder / "signing", signing) as first,
        oidc_provider.started(folder / "asked", asked) as second,
    ):
        yield first, second


@pytest.fixture(scope="module")
def gateway(
    tmp_path_factory: pytest.TempPathFactory,
    providers: tuple[OidcProvider, OidcProvider],
    port: int,
) -> Iterator[Running]:
    signing, asked = providers
    routes = ROUTES.replace("ISSUER", signing.issuer).replace("ASKED", asked.issuer)
    folder: Path = tmp_path_factory.mktemp("resources") / "g"
    settings = {
        "GATEWAY_PUBLIC_URL": f"http://127.0.0.1:{port}",
        "GATEWAY_SECRET_ASKED": SECRET,
    }
    with started(folder, routes=routes, **settings) as running:
        yield running


@pytest.fixture
def provider(providers: tuple[OidcProvider, OidcProvider]) -> OidcProvider:
    return providers[0]


def told(gateway: Running, path: str, token: str, host: str | None = None) -> tuple[int, str]:
    answer = gateway.call("GET", path, token=token, host=host)
    return answer.status, "" if answer.status == 200 else str(answer.reason)


REFUSED = (401, "token_claims_invalid")


def test_a_token_for_a_resource_is_good_there_and_nowhere_else(
    gateway: Running, provider: OidcProvider, port: int
) -> None:
    token = provider.client_token(resource=f"http://127.0.0.1:{port}/tools", scope="tools:call")
    assert told(gateway, "/tools", token) == (200, "")
    assert told(gateway, "/tools/any/thing", token) == (200, "")
    assert told(gateway, "/tools/admin", token) == (403, "insufficient_scope")
    for path in ("/files", "/plain"):
        assert told(gateway, path, token) == REFUSED
    assert told(gateway, "/tools", token, "tools.example.net") == REFUSED


def test_each_route_of_a_resource_asks_for_its_own_scopes(
    gateway: Running, provider: OidcProvider, port: int
) -> None:
    resource = f"http://127.0.0.1:{port}/tools"
    every = provider.client_token(resource=resource, scope="tools:call tools:admin")
    assert told(gateway, "/tools/admin", every) == (200, "")
    some = gateway.call(
        "GET", "/tools/admin", token=provider.client_token(resource=resource, scope="tools:admin")
    )
    assert (some.status, some.json["missing_scopes"]) == (403, ["tools:call"])
    document = gateway.call("GET", "/.well-known/oauth-protected-resource/tools").json
    assert document["scopes_supported"] == ["tools:call", "tools:admin"]


def test_a_resource_is_named_to_the_character(
    gateway: Running, provider: OidcProvider, port: int
) -> None:
    token = provider.client_token(resource=f"http://127.0.0.1:{port}/tools/", scope="tools:call")
    assert told(gateway, "/tools/", token) == REFUSED


def test_a_host_is_another_resource(gateway: Running, provider: OidcProvider, port: int) -> None:
    resource = f"http://tools.example.net:{port}/tools"
    token = provider.client_token(resource=resource)
    assert told(gateway, "/tools", token, "tools.example.net") == (200, "")
    assert told(gateway, "/tools", token) == REFUSED


def test_a_token_for_the_gateway_is_for_no_resource(
    gateway: Running, provider: OidcProvider
) -> None:
    token = provider.client_token(resource=API, scope="tools:call")
    assert told(gateway, "/plain", token) == (200, "")
    assert told(gateway, "/tools", token) == REFUSED


def test_an_opaque_token_is_held_to_the_same(
    gateway: Running, providers: tuple[OidcProvider, OidcProvider], port: int
) -> None:
    _, asked = providers
    resource = f"http://127.0.0.1:{port}/opaque"
    assert told(gateway, "/opaque", asked.client_token(resource=resource, scope="read")) == (
        200,
        "",
    )
    lacking = asked.client_token(resource=resource)
    assert told(gateway, "/opaque", lacking) == (403, "insufficient_scope")
    assert told(gateway, "/plain/opaque", lacking) == REFUSED
    assert told(gateway, "/opaque", asked.client_token(resource=API, scope="read")) == REFUSED
