from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from gateway.edge.endpoints.well_known import (
    AUTHORIZATION_SERVER_PATH,
    JWKS_PATH,
    PROTECTED_RESOURCE_PATH,
    WellKnown,
    WellKnownOptions,
)
from tests.identity.keyring import Gate, HandClock, opened

PUBLIC_URL = "https://gate.example"
ISSUER = "https://issuer.example"
PATHS = [JWKS_PATH, AUTHORIZATION_SERVER_PATH, PROTECTED_RESOURCE_PATH]


@pytest.fixture
async def gate(tmp_path: Path) -> AsyncIterator[Gate]:
    clock = HandClock()
    async with opened(tmp_path, clock) as database:
        yield await Gate(database, clock).start()


@pytest.fixture
def documents(gate: Gate) -> WellKnown:
    return WellKnown(gate.ring, WellKnownOptions(PUBLIC_URL, ISSUER))


def asked(documents: WellKnown, path: str, **headers: str) -> web.Response:
    request = make_mocked_request("GET", path, headers={"Host": "evil.example", **headers})
    answer = documents.answer(request, path)
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
    documents = WellKnown(gate.ring, WellKnownOptions(PUBLIC_URL, ISSUER, client_credentials=True))
    document = members(asked(documents, AUTHORIZATION_SERVER_PATH))
    assert document["token_endpoint"] == PUBLIC_URL + "/auth/token"
    assert document["grant_types_supported"] == ["client_credentials"]


async def test_the_protected_resource_names_its_authorization_server(documents: WellKnown) -> None:
    document = members(asked(documents, PROTECTED_RESOURCE_PATH))
    assert document["resource"] == PUBLIC_URL
    assert document["authorization_servers"] == [ISSUER]
    assert document["bearer_methods_supported"] == ["header"]


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
    documents = WellKnown(gate.ring, WellKnownOptions("http://127.0.0.1:8080", ISSUER))
    assert "Strict-Transport-Security" not in asked(documents, JWKS_PATH).headers


async def test_any_other_path_is_not_ours(documents: WellKnown) -> None:
    request = make_mocked_request("GET", "/.well-known/security.txt")
    assert documents.answer(request, "/.well-known/security.txt") is None
    assert documents.answer(request, "/.well-known/jwks.json/") is None
