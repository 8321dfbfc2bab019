"""A gateway that asks a real provider whether tokens are good (RFC 7662)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.running import Running, started
from tests.e2e.processes import ready, until
from tests.providers import oidc_provider
from tests.providers.oidc_provider import MACHINE, OidcProvider, Setup, machine
from tests.providers.visitor import SECRET, post_as

pytestmark = pytest.mark.slow

OPAQUE = "https://opaque.example.com/"
ROUTES = """\
version: 1
issuers:
  company:
    issuer: ISSUER
    audience: https://opaque.example.com/
    introspection: {{client_id: machine, client_secret: {{secret: company}}, cache: CACHE}}
upstreams:
  echo: {{targets: ["http://127.0.0.1:{port}"]}}
routes:
  - id: theirs
    match: {{path: /theirs}}
    issuers: [own, company]
    policy: signed-in
    upstream: echo
  - id: ours
    match: {{path: /ours}}
    policy: signed-in
    upstream: echo
"""


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OidcProvider]:
    resources = {OPAQUE: {"scope": "orders:read", "format": "opaque", "audience": OPAQUE}}
    setup = Setup(clients=(machine(),), resources=resources)
    with oidc_provider.started(tmp_path_factory.mktemp("provider"), setup) as running:
        yield running


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, provider: OidcProvider) -> Iterator[Running]:
    routes = ROUTES.replace("ISSUER", provider.issuer).replace("CACHE", "0s")
    folder: Path = tmp_path_factory.mktemp("opaque") / "g"
    with started(folder, routes=routes, GATEWAY_SECRET_COMPANY=SECRET) as running:
        yield running


def token(provider: OidcProvider) -> str:
    return provider.client_token(resource=OPAQUE, scope="orders:read")


def theirs(gateway: Running, text: str) -> tuple[int, str]:
    answer = gateway.call("GET", "/theirs", token=text)
    return answer.status, "" if answer.status == 200 else answer.json["reason"]


def test_an_opaque_token_reaches_the_backend_while_the_provider_calls_it_good(
    gateway: Running, provider: OidcProvider
) -> None:
    text = token(provider)
    answer = gateway.call("GET", "/theirs", token=text)
    assert answer.status == 200, answer
    assert ["X-Auth-User-Id", f"company:{MACHINE}"] in answer.json["fields"]
    assert post_as(f"{provider.issuer}/token/revocation", MACHINE, {"token": text}).status == 200
    assert theirs(gateway, text) == (401, "token_revoked")


def test_a_route_that_does_not_take_the_provider_asks_it_nothing(
    gateway: Running, provider: OidcProvider
) -> None:
    text = token(provider)
    provider.forget()
    assert gateway.call("GET", "/ours", token=text).status == 401
    assert "/token/introspection" not in provider.asked()


def test_what_is_made_up_is_asked_about_once(gateway: Running, provider: OidcProvider) -> None:
    provider.forget()
    for _ in range(20):
        assert theirs(gateway, "made-up-by-a-stranger") == (401, "token_revoked")
    assert provider.asked()["/token/introspection"] <= 2


def test_a_provider_that_hangs_costs_two_seconds_and_then_nothing(
    gateway: Running, provider: OidcProvider
) -> None:
    text = token(provider)
    assert theirs(gateway, text) == (200, "")
    provider.suspend()
    try:
        waits = []
        for _ in range(7):
            began = time.monotonic()
            assert theirs(gateway, text) == (503, "issuer_unavailable")
            waits.append(time.monotonic() - began)
        assert max(waits) < 3
        assert min(waits) < 0.5  # the breaker is open
        told = ready(gateway)
        assert told["ready"]
        error = told["workers"][0]["issuers"]["company"]["introspection_error"]
        assert "did not answer" in error
    finally:
        provider.resume()
    until(lambda: theirs(gateway, text) == (200, ""), 20)
