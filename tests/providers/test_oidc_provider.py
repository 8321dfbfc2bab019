"""The provider by which foreign tokens are tested: that it does what tests ask of it."""

from __future__ import annotations

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import parse_qs

import jwt
import pytest

from tests.providers.oidc_provider import OidcProvider, Setup, application, machine, started

API, OPAQUE = "https://api.example.com/", "https://opaque.example.com/"
BACK = "http://127.0.0.1:9/back"


class Backchannel(BaseHTTPRequestHandler):
    """Keeps the logout tokens that come."""

    tokens: list[str]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.tokens.append(parse_qs(body)["logout_token"][0])
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def logout_tokens() -> Iterator[tuple[str, list[str]]]:
    class Kept(Backchannel):
        tokens: list[str] = []

    with HTTPServer(("127.0.0.1", 0), Kept) as server:
        Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/logout", Kept.tokens
        server.shutdown()


@pytest.fixture(scope="module")
def provider(
    tmp_path_factory: pytest.TempPathFactory, logout_tokens: tuple[str, list[str]]
) -> Iterator[OidcProvider]:
    url, _ = logout_tokens
    setup = Setup(
        clients=(machine(), application("shop", BACK, backchannel_logout_uri=url)),
        resources={
            API: {"scope": "orders:read orders:write", "audience": "api"},
            OPAQUE: {"scope": "orders:read", "format": "opaque"},
        },
        accounts={"ada": {"realm_access": {"roles": ["manager"]}}},
        algorithms=("RS256", "EdDSA"),
        cache_control="public, max-age=300",
    )
    with started(tmp_path_factory.mktemp("provider"), setup) as running:
        yield running


def claims(provider: OidcProvider, token: str, audience: str) -> dict[str, object]:
    keys = jwt.PyJWKSet.from_dict(provider.jwks())
    key = keys[jwt.get_unverified_header(token)["kid"]]
    return dict(jwt.decode(token, key, ["RS256"], audience=audience, issuer=provider.issuer))


def test_discovery_names_its_key_set(provider: OidcProvider) -> None:
    document = provider.discovery()
    assert document["issuer"] == provider.issuer
    assert document["jwks_uri"] == f"{provider.issuer}/jwks"
    assert {key["alg"] for key in provider.jwks()["keys"]} == {"RS256", "EdDSA"}


def test_a_client_has_a_token_of_its_own(provider: OidcProvider) -> None:
    token = provider.client_token(resource=API, scope="orders:read")
    assert jwt.get_unverified_header(token)["typ"] == "at+jwt"
    said = claims(provider, token, "api")
    assert (said["sub"], said["client_id"], said["scope"]) == ("machine", "machine", "orders:read")


def test_an_opaque_token_is_told_by_introspection(provider: OidcProvider) -> None:
    token = provider.client_token(resource=OPAQUE, scope="orders:read")
    said = provider.introspect(token)
    assert (said["active"], said["aud"], said["scope"]) == (True, OPAQUE, "orders:read")
    assert provider.introspect("other") == {"active": False}


def test_who_signs_out_is_signed_out_at_the_clients(
    provider: OidcProvider, logout_tokens: tuple[str, list[str]]
) -> None:
    _, tokens = logout_tokens
    visitor = provider.visitor()
    answer = visitor.sign_in("shop", BACK, "ada", scope="openid orders:read", resource=API)
    said = claims(provider, answer["access_token"], "api")
    assert (said["sub"], said["realm_access"]) == ("ada", {"roles": ["manager"]})

    visitor.sign_out(answer["id_token"])
    logout = claims(provider, tokens[-1], "shop")
    assert (logout["sub"], logout["sid"]) == ("ada", said["sid"])
    assert provider.logouts() == ["shop: done"]


def test_its_keys_rotate_and_old_ones_may_stay(provider: OidcProvider) -> None:
    old = provider.client_token(resource=API)
    kid = jwt.get_unverified_header(old)["kid"]
    assert kid in provider.rotate(keep_old=True)
    claims(provider, old, "api")
    assert kid not in provider.rotate()
    new = provider.client_token(resource=API)
    claims(provider, new, "api")


def test_it_fails_as_it_is_told(provider: OidcProvider) -> None:
    provider.forget()
    provider.answer_with("garbage")
    with pytest.raises(ValueError, match="Expecting value"):
        provider.jwks()
    provider.answer_again()
    assert provider.jwks()["keys"]
    assert provider.asked() == {"/jwks": 2}


def test_it_comes_back_with_its_keys(tmp_path: Path) -> None:
    with started(tmp_path / "provider") as provider:
        kids = [key["kid"] for key in provider.jwks()["keys"]]
        provider.stop()
        with pytest.raises(ConnectionRefusedError):
            provider.jwks()
        provider.start()
        assert [key["kid"] for key in provider.jwks()["keys"]] == kids
        provider.stop()
        provider.start(new_keys=True)
        assert [key["kid"] for key in provider.jwks()["keys"]] != kids
