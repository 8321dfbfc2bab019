"""Routes that are resources of OAuth, as a client without a token meets them (RFC 9728)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.contract.running import Running, started

ROUTES = """\
version: 1
decision_api: {{trusted_peers: ["127.0.0.1/32"]}}
issuers:
  idp: {{issuer: "http://127.0.0.1:{dead}", audience: tools}}
upstreams:
  echo: {{targets: ["http://127.0.0.1:{port}"]}}
cors:
  pages: {{origins: ["https://client.example"], expose: [www-authenticate]}}
defaults: {{policy: signed-in, upstream: echo, issuers: [idp]}}
routes:
  - id: mcp
    match: {{prefix: /mcp}}
    cors: pages
    resource_server: {{scopes: [tools:call, tools:list], name: The tools}}
  - id: elsewhere
    match: {{host: tools.example.net, path: /api}}
    resource_server: {{path: /}}
  - id: plain
    match: {{path: /plain}}
    issuers: [own, idp]
  - id: own.documents
    match: {{host: app.example.net, path: "/.well-known/{{rest:path}}"}}
    auth: public
"""
WELL_KNOWN = "/.well-known/oauth-protected-resource"
HANDSHAKE = (
    ("Connection", "Upgrade"),
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
)


@pytest.fixture(scope="module")
def resources(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with started(tmp_path_factory.mktemp("resources") / "g", routes=ROUTES) as running:
        yield running


def challenge(running: Running, error: str = "") -> str:
    return (
        f'Bearer realm="authgate", {error}scope="tools:call tools:list", '
        f'resource_metadata="http://127.0.0.1:{running.port}{WELL_KNOWN}/mcp"'
    )


@pytest.mark.parametrize("path", ["/mcp", "/mcp/", "/mcp/messages?a=b"])
def test_the_401_leads_to_the_metadata(resources: Running, path: str) -> None:
    answer = resources.call("GET", path)
    assert (answer.status, answer.reason) == (401, "no_credential")
    assert answer.get("www-authenticate") == challenge(resources)


def test_and_the_metadata_to_the_authorization_server(resources: Running) -> None:
    answer = resources.call("GET", f"{WELL_KNOWN}/mcp")
    assert (answer.status, answer.get("content-type")) == (200, "application/json")
    assert answer.get("cache-control") == "public, max-age=300"
    document = answer.json
    assert document.pop("authorization_servers")[0].startswith("http://127.0.0.1:")
    assert document == {
        "resource": f"http://127.0.0.1:{resources.port}/mcp",
        "bearer_methods_supported": ["header"],
        "scopes_supported": ["tools:call", "tools:list"],
        "resource_name": "The tools",
    }
    again = resources.call("GET", f"{WELL_KNOWN}/mcp", ("If-None-Match", answer.get("etag") or ""))
    assert again.status == 304


def test_a_bad_token_is_told_the_same(resources: Running) -> None:
    answer = resources.call("GET", "/mcp", token="x.y.z")
    assert answer.status == 401
    assert answer.get("www-authenticate") == challenge(resources, 'error="invalid_token", ')


def test_a_token_of_our_own_names_another_resource(resources: Running) -> None:
    token = resources.sign_in("ada@example.com")["access_token"]
    assert resources.call("GET", "/plain", token=token).status == 200
    answer = resources.call("GET", "/mcp", token=token)
    assert (answer.status, answer.reason) == (401, "token_claims_invalid")


def test_a_handshake_is_told_as_a_call_is(resources: Running) -> None:
    answer = resources.call("GET", "/mcp/socket", *HANDSHAKE)
    assert (answer.status, answer.get("www-authenticate")) == (401, challenge(resources))


def test_a_call_that_another_proxy_holds_is_too(resources: Running) -> None:
    told = {"Method": "GET", "Uri": "/mcp", "Host": f"127.0.0.1:{resources.port}", "Proto": "http"}
    fields = [(f"X-Forwarded-{name}", value) for name, value in told.items()]
    answer = resources.admin("/decide/caddy", *fields, ("X-Forwarded-For", "203.0.113.7"))
    assert (answer.status, answer.get("www-authenticate")) == (401, challenge(resources))


def test_a_page_of_another_origin_finds_its_way(resources: Running) -> None:
    page = ("Origin", "https://client.example")
    refused = resources.call("POST", "/mcp", page)
    assert refused.get("access-control-allow-origin") == "https://client.example"
    assert (refused.get("access-control-expose-headers") or "").lower() == "www-authenticate"
    ask = [("Access-Control-Request-Method", "GET")]
    ask += [("Access-Control-Request-Headers", "mcp-protocol-version")]
    preflight = resources.call("OPTIONS", f"{WELL_KNOWN}/mcp", page, *ask)
    assert (preflight.status, preflight.get("access-control-allow-origin")) == (204, "*")
    assert preflight.get("access-control-allow-headers") == "*"
    found = resources.call("GET", f"{WELL_KNOWN}/mcp", page)
    assert found.get("access-control-allow-origin") == "*"


def test_a_host_is_a_resource_of_its_own(resources: Running) -> None:
    host = "tools.example.net"
    origin = f"http://{host}:{resources.port}"
    answer = resources.call("GET", "/api", host=host)
    assert answer.get("www-authenticate") == (
        f'Bearer realm="authgate", resource_metadata="{origin}{WELL_KNOWN}"'
    )
    document = resources.call("GET", WELL_KNOWN, host=host).json
    assert document["resource"] == f"{origin}/"
    assert "scopes_supported" not in document


@pytest.mark.parametrize("path", ["", "/", "/plain", "/api", "/mcp/messages"])
def test_there_is_no_document_of_what_is_no_resource(resources: Running, path: str) -> None:
    answer = resources.call("GET", WELL_KNOWN + path)
    assert (answer.status, answer.reason) == (404, "route_unknown")


def test_a_method_that_reads_nothing_is_refused(resources: Running) -> None:
    answer = resources.call("POST", f"{WELL_KNOWN}/mcp")
    assert (answer.status, answer.get("allow")) == (405, "GET, HEAD, OPTIONS")


def test_an_application_keeps_the_documents_of_its_own_host(resources: Running) -> None:
    for path in (WELL_KNOWN, f"{WELL_KNOWN}/mcp"):
        answer = resources.call("GET", path, host="app.example.net")
        assert (answer.status, answer.json["target"]) == (200, path)


def test_what_a_client_asks_for_is_no_name_of_a_metric(resources: Running) -> None:
    resources.call("GET", f"{WELL_KNOWN}/made-up-by-a-stranger")
    metrics = resources.admin("/metrics").body.decode()
    assert f'endpoint="{WELL_KNOWN}"' in metrics
    assert "made-up-by-a-stranger" not in metrics


def test_explain_says_who_answers(resources: Running) -> None:
    done = resources.cli("explain", "GET", f"http://127.0.0.1:{resources.port}{WELL_KNOWN}/mcp")
    assert done.returncode == 1
    assert "the gateway answers this path itself" in done.stdout
