"""A gateway that takes the tokens of a real provider: its keys change, and it goes away."""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.running import Running, started
from tests.e2e.processes import ready, until
from tests.providers import oidc_provider
from tests.providers.oidc_provider import OidcProvider, Setup, Spoilt, machine

pytestmark = pytest.mark.slow

API = "https://api.example.com/"
ROUTES = """\
version: 1
issuers:
  company:
    issuer: ISSUER
    audience: https://api.example.com/
    max_stale: 1h
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
    setup = Setup(clients=(machine(),), resources={API: {"scope": "orders:read", "audience": API}})
    with oidc_provider.started(tmp_path_factory.mktemp("provider"), setup) as running:
        yield running


@pytest.fixture(scope="module")
def routes(provider: OidcProvider) -> str:
    return ROUTES.replace("ISSUER", provider.issuer)


@pytest.fixture(scope="module")
def gateway(
    tmp_path_factory: pytest.TempPathFactory, provider: OidcProvider, routes: str
) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("keys") / "g"
    with started(folder, routes=routes) as running:
        until(lambda: state(running)["error"] is None and state(running)["keys"] == 1, 20)
        yield running


def state(running: Running) -> dict[str, object]:
    return dict(ready(running)["workers"][0]["issuers"]["company"])


def token(provider: OidcProvider) -> str:
    return provider.client_token(resource=API, scope="orders:read")


def test_a_token_of_the_provider_reaches_the_backend(
    gateway: Running, provider: OidcProvider
) -> None:
    answer = gateway.call("GET", "/theirs", token=token(provider))
    assert answer.status == 200, answer
    assert ["X-Auth-User-Id", "company:machine"] in answer.json["fields"]


def test_it_is_good_on_no_route_that_does_not_take_the_provider(
    gateway: Running, provider: OidcProvider
) -> None:
    answer = gateway.call("GET", "/ours", token=token(provider))
    assert (answer.status, answer.json["reason"]) == (401, "token_claims_invalid")


def test_keys_that_the_provider_changes_are_found_by_their_kid(
    gateway: Running, provider: OidcProvider
) -> None:
    provider.rotate(keep_old=True)
    text = token(provider)
    # Within 10 s of the last fetch it is not asked again.
    until(lambda: gateway.call("GET", "/theirs", token=text).status == 200, 15)


def test_known_tokens_go_on_while_the_provider_answers_nonsense(
    gateway: Running, provider: OidcProvider
) -> None:
    text = token(provider)
    until(lambda: gateway.call("GET", "/theirs", token=text).status == 200, 15)
    provider.answer_with("garbage")
    try:
        # An unknown key has it asked, and from the first failure on it is asked by itself.
        until(lambda: "no JSON" in error_of(gateway, unknown=text), 15)
        for spoilt, why in SPOILT:
            provider.answer_with(spoilt)
            until(lambda why=why: why in error_of(gateway), 40)  # type: ignore[misc]
            assert gateway.call("GET", "/theirs", token=text).status == 200
            assert state(gateway)["keys"]
    finally:
        provider.answer_again()
    until(lambda: not error_of(gateway), 70)


SPOILT: list[tuple[Spoilt, str]] = [("redirecting", "answered 30"), ("endless", "more than")]


def error_of(gateway: Running, *, unknown: str | None = None) -> str:
    """Why the last fetch brought nothing; `unknown`: once a call has brought an unknown key."""
    if unknown is not None:
        header, _, rest = unknown.partition(".")
        named = json.loads(base64.urlsafe_b64decode(header + "=" * (-len(header) % 4)))
        odd = json.dumps({**named, "kid": "nobody-knows"}).encode()
        made_up = base64.urlsafe_b64encode(odd).rstrip(b"=").decode()
        assert gateway.call("GET", "/theirs", token=f"{made_up}.{rest}").status in (401, 503)
    return str(state(gateway)["error"] or "")


def test_known_tokens_go_on_while_the_provider_hangs_and_others_wait_two_seconds(
    gateway: Running, provider: OidcProvider
) -> None:
    text = token(provider)
    until(lambda: gateway.call("GET", "/theirs", token=text).status == 200, 15)
    provider.rotate()
    unknown = token(provider)
    provider.suspend()
    try:
        # Which fetch the unknown key waits for depends on when the last one was.
        until(lambda: gateway.call("GET", "/theirs", token=unknown).status == 503, 15)
        began = time.monotonic()
        answer = gateway.call("GET", "/theirs", token=unknown)
        assert (answer.status, answer.json["reason"]) == (503, "issuer_unavailable")
        assert time.monotonic() - began < 3
        for path in ("/theirs", "/ours"):
            began = time.monotonic()
            assert gateway.call("GET", path, token=text).status == {"/theirs": 200}.get(path, 401)
            assert time.monotonic() - began < 1
    finally:
        provider.resume()
    until(lambda: gateway.call("GET", "/theirs", token=unknown).status == 200, 30)
    # The key that is published no more is believed no more.
    answer = gateway.call("GET", "/theirs", token=text)
    assert (answer.status, answer.json["reason"]) == (401, "key_unknown")


def test_a_start_while_the_provider_is_away_has_its_keys(
    tmp_path: Path, provider: OidcProvider, routes: str
) -> None:
    data = tmp_path / "kept"
    settings = {
        "GATEWAY_DATA_DIR": str(data),
        "GATEWAY_DATABASE_URL": f"sqlite:///{data}/gateway.db",
    }
    with started(tmp_path / "first", routes=routes, **settings) as running:
        until(lambda: state(running)["keys"] == 1, 20)
    text = token(provider)
    provider.stop()
    try:
        with started(tmp_path / "second", routes=routes, **settings) as running:
            until(lambda: state(running)["error"] is not None, 20)
            assert gateway_state_is_served(running)
            assert running.call("GET", "/theirs", token=text).status == 200
    finally:
        provider.start()


def gateway_state_is_served(running: Running) -> bool:
    metrics = running.admin("/metrics").body.decode()
    return (
        ready(running)["ready"]
        and 'authgate_issuer_fetches_total{issuer="company",outcome="unreachable"}' in metrics
        and 'authgate_issuer_keys_age_seconds{issuer="company",' in metrics
        and re.search(r'^authgate_issuer_failing{issuer="company",.*} 1', metrics, re.M) is not None
    )


def test_explain_judges_a_token_of_the_provider_by_the_keys_that_are_kept(
    gateway: Running, provider: OidcProvider, tmp_path: Path
) -> None:
    text = token(provider)
    until(lambda: gateway.call("GET", "/theirs", token=text).status == 200, 15)
    file = tmp_path / "token"
    file.write_text(text)
    told = gateway.cli("explain", "GET", "/theirs", "--token-file", str(file))
    assert told.returncode == 0, told.stderr
    assert "company:machine of issuer company" in told.stdout
    file.write_text(text[:-8] + "AAAAAAAA")
    told = gateway.cli("explain", "GET", "/theirs", "--token-file", str(file), "--json")
    assert told.returncode == 1
    assert json.loads(told.stdout)["reason"] == "token_signature_invalid"
    ended = gateway.cli("revoke", "user", "company:machine")
    assert ended.returncode == 0, ended.stderr
    file.write_text(text)
    told = gateway.cli("explain", "GET", "/theirs", "--token-file", str(file), "--json")
    assert json.loads(told.stdout)["reason"] == "token_revoked"
