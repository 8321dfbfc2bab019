from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from gateway.access.routing.csrf import OwnOrigins
from gateway.access.simulation import SimulatedRequest, simulated_call
from gateway.edge.endpoints.resource_metadata import ResourceMetadata
from gateway.edge.endpoints.well_known import (
    AUTHORIZATION_SERVER_PATH,
    JWKS_PATH,
    WellKnown,
    WellKnownOptions,
)
from gateway.model import Call, Reason
from tests.access.worlds import snapshot
from tests.cpu_cost import cost_ratio
from tests.identity.keyring import Gate, HandClock, opened

PUBLIC_URL = "https://gate.example"
WORLD = snapshot("""
version: 1
issuers: {idp: {issuer: "https://idp.example", audience: tools}}
upstreams: {api: {targets: ["http://127.0.0.1:9001"]}}
defaults: {policy: signed-in, upstream: api, issuers: [idp]}
routes:
  - id: mcp
    match: {prefix: /mcp}
    resource_server:
      {scopes: [tools:call], name: The tools, documentation: "https://docs.example/tools"}
  - id: mcp.list
    match: {path: /mcp/list}
    resource_server: {path: /mcp, scopes: [tools:list]}
  - {id: caf, match: {path: /café}, resource_server: {}}
  - {id: root, match: {host: root.example, path: /x}, resource_server: {path: /}}
  - {id: wild, match: {host: "*.wild.example", path: /wild}, resource_server: {}}
  - {id: named, match: {host: named.wild.example, path: /wild}, resource_server: {}}
  - {id: api, match: {path: /api}, issuers: [own]}
""")
ISSUER = "https://issuer.example"
RESOURCE_PATH = "/.well-known/oauth-protected-resource/mcp"
PATHS = [JWKS_PATH, AUTHORIZATION_SERVER_PATH, RESOURCE_PATH]


@pytest.fixture
async def gate(tmp_path: Path) -> AsyncIterator[Gate]:
    clock = HandClock()
    async with opened(tmp_path, clock) as database:
        yield await Gate(database, clock).start()


@pytest.fixture
def documents(gate: Gate) -> WellKnown:
    return of_options(gate, WellKnownOptions(PUBLIC_URL, ISSUER))


def of_options(gate: Gate, options: WellKnownOptions) -> WellKnown:
    resources = ResourceMetadata(lambda: WORLD, OwnOrigins(options.public_url))
    return WellKnown(gate.ring, options, resources)


def answered(
    documents: WellKnown,
    path: str,
    *,
    method: str = "GET",
    host: str = "evil.example",
    **headers: str,
) -> web.Response | None:
    fields = {"Host": host, **headers}
    request = make_mocked_request(method, path, headers=fields)
    asked = SimulatedRequest(method, path, Reason.NO_CREDENTIAL, list(fields.items()))
    call = simulated_call(asked)
    assert isinstance(call, Call)
    return documents.answer(request, call)


def asked(documents: WellKnown, path: str, **headers: str) -> web.Response:
    answer = answered(documents, path, **headers)
    assert answer is not None
    return answer


def members(answer: web.Response) -> dict[str, object]:
    assert isinstance(answer.body, bytes)
    document: dict[str, object] = json.loads(answer.body)
    return document


async def test_the_jwks_holds_every_key_that_verifies(gate: Gate, documents: WellKnown) -> None:
    answer = asked(documents, JWKS_PATH)
    assert answer.content_type == "application/jwk-set+json"
    keys = members(answer)["keys"]
    assert isinstance(keys, list)
    assert {key["kid"] for key in keys} == gate.ring.kids()


@pytest.mark.parametrize("path", PATHS)
async def test_each_may_be_kept_for_five_minutes(documents: WellKnown, path: str) -> None:
    assert asked(documents, path).headers["Cache-Control"] == "public, max-age=300"


@pytest.mark.parametrize("path", PATHS)
async def test_who_has_it_already_is_sent_none(documents: WellKnown, path: str) -> None:
    etag = asked(documents, path).headers["ETag"]
    for known in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        answer = asked(documents, path, **{"If-None-Match": known})
        assert answer.status == 304
        assert not answer.body
        assert answer.headers["ETag"] == etag
        assert answer.headers["Cache-Control"] == "public, max-age=300"


@pytest.mark.parametrize("known", ['"other"', "", "W/", '"', "nonsense", "é"])
async def test_who_has_another_is_sent_the_whole(documents: WellKnown, known: str) -> None:
    assert asked(documents, JWKS_PATH, **{"If-None-Match": known}).status == 200


async def test_a_list_of_thousands_of_tags_costs_little_more_than_to_part_it(
    documents: WellKnown,
) -> None:
    """Nothing limits who asks for a document: 560 such calls a second once took a core."""
    known = "," * 159_000  # ten times a head, for what else an answer costs

    def ask() -> object:
        return asked(documents, JWKS_PATH, **{"If-None-Match": known})

    assert cost_ratio(ask, lambda: known.split(",")) < 3


async def test_a_rotation_changes_the_etag(gate: Gate, documents: WellKnown) -> None:
    etag = asked(documents, JWKS_PATH).headers["ETag"]
    await gate.rotation.rotate()
    assert asked(documents, JWKS_PATH, **{"If-None-Match": etag}).status == 200


async def test_the_authorization_server_names_itself_and_its_keys(documents: WellKnown) -> None:
    document = members(asked(documents, AUTHORIZATION_SERVER_PATH))
    assert document["issuer"] == ISSUER
    assert document["jwks_uri"] == PUBLIC_URL + JWKS_PATH
    # RFC 8414 section 2: what is left out of these would promise endpoints that are not there.
    assert document["response_types_supported"] == []
    assert document["grant_types_supported"] == []
    assert "token_endpoint" not in document


async def test_endpoints_for_clients_are_named_once_they_are_there(gate: Gate) -> None:
    documents = of_options(gate, WellKnownOptions(PUBLIC_URL, ISSUER, client_credentials=True))
    document = members(asked(documents, AUTHORIZATION_SERVER_PATH))
    assert document["token_endpoint"] == PUBLIC_URL + "/auth/token"
    assert document["grant_types_supported"] == ["client_credentials"]


async def test_a_resource_names_whom_to_ask_for_a_token_and_for_which_scopes(
    documents: WellKnown,
) -> None:
    assert members(asked(documents, RESOURCE_PATH)) == {
        "resource": f"{PUBLIC_URL}/mcp",
        "authorization_servers": ["https://idp.example"],
        "bearer_methods_supported": ["header"],
        "scopes_supported": ["tools:call", "tools:list"],
        "resource_name": "The tools",
        "resource_documentation": "https://docs.example/tools",
    }


@pytest.mark.parametrize("slash", ["", "/"])
async def test_the_resource_of_a_host_is_below_no_path(documents: WellKnown, slash: str) -> None:
    path = f"/.well-known/oauth-protected-resource{slash}"
    answer = asked(documents, path, host="root.example")
    assert members(answer) == {
        "resource": "https://root.example/",
        "authorization_servers": ["https://idp.example"],
        "bearer_methods_supported": ["header"],
    }
    assert answered(documents, path, host="gate.example") is None


@pytest.mark.parametrize(
    ("host", "path", "resource"),
    [
        ("a.wild.example", "/wild", "https://a.wild.example/wild"),
        ("named.wild.example", "/wild", "https://named.wild.example/wild"),
        ("b.a.wild.example", "/wild", None),
        ("gate.example", "/wild", None),
        ("gate.example", "/mcp/", None),
        ("gate.example", "/mcp/x", None),
        ("gate.example", "/MCP", None),
        ("gate.example", "/m%63p", None),
        ("gate.example", "/caf%C3%A9", f"{PUBLIC_URL}/caf%C3%A9"),
        ("gate.example", "/api", None),
    ],
)
async def test_a_document_is_about_the_resource_that_is_asked_for_alone(
    documents: WellKnown, host: str, path: str, resource: str | None
) -> None:
    where = f"/.well-known/oauth-protected-resource{path}"
    answer = answered(documents, where, host=host)
    assert (None if answer is None else members(answer)["resource"]) == resource


async def test_pages_of_other_origins_read_the_metadata_and_nothing_else(
    documents: WellKnown,
) -> None:
    answer = asked(documents, RESOURCE_PATH, Origin="https://client.example")
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert "Access-Control-Allow-Credentials" not in answer.headers
    preflight = asked(documents, RESOURCE_PATH, method="OPTIONS", Origin="https://client.example")
    assert preflight.status == 204
    assert preflight.headers["Access-Control-Allow-Origin"] == "*"
    assert preflight.headers["Access-Control-Allow-Headers"] == "*"
    for path in (JWKS_PATH, AUTHORIZATION_SERVER_PATH):
        assert "Access-Control-Allow-Origin" not in asked(documents, path).headers


@pytest.mark.parametrize("path", PATHS)
async def test_no_document_holds_the_host_that_a_client_named(
    documents: WellKnown, path: str
) -> None:
    # CVE-2024-52003
    answer = asked(documents, path, **{"X-Forwarded-Host": "evil.example"})
    assert b"evil" not in (answer.body or b"")  # type: ignore[operator]
    assert not any("evil" in value for value in answer.headers.values())


@pytest.mark.parametrize("path", PATHS)
async def test_each_carries_the_headers_of_our_own_answers(documents: WellKnown, path: str) -> None:
    headers = asked(documents, path).headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Strict-Transport-Security"]


async def test_without_https_there_is_no_hsts(gate: Gate) -> None:
    documents = of_options(gate, WellKnownOptions("http://127.0.0.1:8080", ISSUER))
    assert "Strict-Transport-Security" not in asked(documents, JWKS_PATH).headers


async def test_any_other_path_is_not_ours(documents: WellKnown) -> None:
    assert answered(documents, "/.well-known/security.txt") is None
    assert answered(documents, "/.well-known/jwks.json/") is None
