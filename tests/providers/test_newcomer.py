"""The first section of the page on issuers, step by step: what somebody has who does what it says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.contract.running import Running, started
from tests.e2e.processes import ready, until
from tests.ports import free_port
from tests.providers import oidc_provider
from tests.providers.oidc_provider import OidcProvider, Setup, application, machine

pytestmark = pytest.mark.slow

PAGE = Path(__file__).parents[2] / "docs" / "issuers.md"
PROVIDER, BACKEND = "https://id.example.com/realms/main", "http://127.0.0.1:9001"
BACK = "https://shop.example.com/signed-in"
API = "https://shop.example.com/"
"""The provider of the tests names an audience by its resource; Keycloak by a mapper."""


@dataclass
class Newcomer:
    gateway: Running
    provider: OidcProvider
    folder: Path

    def call(self, token: str) -> tuple[int, str]:
        answer = self.gateway.call("GET", "/shop/", token=token)
        return answer.status, "" if answer.status == 200 else str(answer.reason)

    def check(self, token: str) -> tuple[int, str]:
        (self.folder / "token").write_text(token)
        done = self.gateway.cli("issuers", "check", "keycloak", "--token-file", "token")
        return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def newcomer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Newcomer]:
    folder, port = tmp_path_factory.mktemp("newcomer"), free_port()
    written = re.findall(r"```yaml\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)[0]
    told = f"http://127.0.0.1:{port}/auth/issuers/keycloak/backchannel-logout"
    setup = Setup(
        clients=(
            machine("shop-batch"),
            application("shop-web", BACK, backchannel_logout_uri=told),
        ),
        resources={API: {"scope": "", "audience": "shop"}},
        default_resource=API,
    )
    settings = {
        "GATEWAY_LISTEN": f"127.0.0.1:{port}",
        "GATEWAY_PUBLIC_URL": f"http://127.0.0.1:{port}",
    }
    with oidc_provider.started(folder / "provider", setup) as provider:
        assert PROVIDER in written
        routes = written.replace("{", "{{").replace("}", "}}")
        routes = routes.replace(PROVIDER, provider.issuer)
        routes = routes.replace(BACKEND, "http://127.0.0.1:{port}")
        with started(folder / "g", routes=routes, **settings) as gateway:
            gateway.port = port
            until(lambda: ready(gateway)["workers"][0]["issuers"]["keycloak"]["keys"] == 1, 20)
            yield Newcomer(gateway, provider, folder / "g")


def test_a_client_calls_the_backend(newcomer: Newcomer) -> None:
    token = newcomer.provider.client_token("shop-batch")
    answer = newcomer.gateway.call("GET", "/shop/", token=token)
    assert answer.status == 200, answer
    assert ["X-Auth-User-Id", "keycloak:shop-batch"] in answer.json["fields"]


def test_who_signs_out_at_the_provider_is_out_at_the_next_call(newcomer: Newcomer) -> None:
    visitor = newcomer.provider.visitor()
    tokens = visitor.sign_in("shop-web", BACK, "ada")
    assert newcomer.call(tokens["access_token"]) == (200, "")
    # It is for the client alone.
    assert newcomer.call(tokens["id_token"]) == (401, "token_claims_invalid")
    visitor.sign_out(tokens["id_token"])
    assert newcomer.call(tokens["access_token"]) == (401, "token_revoked")


def test_the_commands_tell_what_there_is_and_judge_a_token(newcomer: Newcomer) -> None:
    listed = newcomer.gateway.cli("issuers", "list")
    assert (listed.returncode, listed.stderr) == (0, "")
    [kid] = [key["kid"] for key in newcomer.provider.jwks()["keys"]]
    assert ["keycloak", newcomer.provider.issuer, kid] == listed.stdout.splitlines()[1].split()[:3]
    code, said = newcomer.check(newcomer.provider.client_token("shop-batch"))
    assert (code, "keycloak:shop-batch" in said) == (0, True)
    code, said = newcomer.check(
        newcomer.provider.visitor().sign_in("shop-web", BACK, "ada")["id_token"]
    )
    assert (code, "one that names shop would be right" in said) == (1, True)
