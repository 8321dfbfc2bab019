"""What a provider publishes of itself, and what of it is believed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.identity.issuers.jwk_set import DocumentRefused
from gateway.identity.providers.metadata import known_metadata, read_metadata
from tests.config.provider_texts import CLIENT
from tests.config.provider_texts import provider as provider_of
from tests.identity.providers.parts import ISSUER, provider

DOCUMENT = {
    "issuer": ISSUER,
    "authorization_endpoint": f"{ISSUER}/auth",
    "token_endpoint": f"{ISSUER}/token",
    "jwks_uri": f"{ISSUER}/keys",
}


def raw(**changed: Any) -> bytes:
    return json.dumps({**DOCUMENT, **changed}).encode()


def test_what_it_offers_is_read() -> None:
    plain = read_metadata(raw(), provider())
    assert (plain.token, plain.pushed_authorization, plain.names_iss) == (
        f"{ISSUER}/token", None, False,
    )  # fmt: skip
    assert plain.client_auth_methods == ("client_secret_basic",)
    whole = read_metadata(
        raw(
            pushed_authorization_request_endpoint=f"{ISSUER}/par",
            end_session_endpoint=f"{ISSUER}/end",
            userinfo_endpoint=f"{ISSUER}/me",
            authorization_response_iss_parameter_supported=True,
            token_endpoint_auth_methods_supported=["client_secret_post"],
        ),
        provider(),
    )
    assert whole.pushed_authorization == f"{ISSUER}/par"
    assert whole.names_iss
    assert whole.client_auth_methods == ("client_secret_post",)


@pytest.mark.parametrize(
    "document",
    [
        b"", b"[]", b"null", b"{", b'{"issuer": "a", "issuer": "b"}', b" " * 70_000,
        raw(issuer=f"{ISSUER}/"),
        raw(issuer="https://evil.example"),
        raw(token_endpoint=None),
        raw(jwks_uri=None),
        raw(authorization_endpoint=None),
        raw(token_endpoint="https://evil.example/token"),
        raw(userinfo_endpoint="https://evil.example/me"),
        raw(jwks_uri="https://evil.example/keys"),
        raw(authorization_endpoint="https://evil.example/auth"),
        raw(end_session_endpoint="javascript:alert(1)"),
        raw(token_endpoint="http://id.example/token"),
        raw(token_endpoint=7),
        raw(token_endpoint=f"{ISSUER.replace('https://', 'https://user@')}/token"),
    ],
)  # fmt: skip
def test_a_document_of_another_or_that_leads_elsewhere_is_refused(document: bytes) -> None:
    with pytest.raises(DocumentRefused):
        read_metadata(document, provider())


def test_an_origin_that_the_configuration_names_is_the_providers_too() -> None:
    named = provider("origins: [https://api.example.com]")
    found = read_metadata(raw(token_endpoint="https://api.example.com/token"), named)
    assert found.token == "https://api.example.com/token"


def test_github_publishes_none() -> None:
    found = known_metadata(provider_of(f"preset: github\n{CLIENT}"))
    assert found is not None
    assert found.authorization == "https://github.com/login/oauth/authorize"
    assert found.userinfo == "https://api.github.com/user"
    own = provider_of(f"preset: github\nissuer: https://git.example.com\n{CLIENT}")
    enterprise = known_metadata(own)
    assert enterprise is not None
    assert enterprise.userinfo == "https://git.example.com/api/v3/user"
    assert known_metadata(provider()) is None
