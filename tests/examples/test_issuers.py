"""examples/issuers: tokens of the shape that each provider gives are who the example says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from gateway.access.simulation import FixedClock, SimulatedRequest, simulate
from gateway.access.snapshot import Snapshot
from gateway.cli import main
from gateway.config.compile import compile_snapshot
from gateway.config.files import read_sources
from gateway.identity.issuers.jwk_set import IssuerKey, read_jwk_set
from gateway.identity.issuers.verifier import IssuerVerifier, read_foreign_token
from gateway.model import Principal, Reason

EXAMPLES = Path(__file__).parents[2] / "examples" / "issuers"
PROVIDERS = {
    "auth0": "auth0:auth0|5f7c8ec7c33c6c004bbafe82",
    "cognito": "cognito:aaaaaaaa-bbbb-cccc-dddd-example12345",
    "entra": "entra:690222be-ff1a-4d56-abd1-7e4f7d38e474",
    "github-actions": "github-actions:repo:octo-org/shop:environment:production",
    "google": "google:103547991597142817347",
    "keycloak": "keycloak:0e4d3a52-51bb-4f5a-9a3c-0d7a8f6f3b1e",
    "kubernetes": "kubernetes:system:serviceaccount:shop:reports",
    "okta": "okta:00ub0oNGTSWTBKOLGLNR",
}
"""And whom each token speaks of."""
DAY_S = 86_400


def world(provider: str) -> Snapshot:
    folder = EXAMPLES / provider
    sources = read_sources(folder / "routes.yaml", folder / "policies")
    assert not isinstance(sources, list), sources
    made = compile_snapshot(sources)
    assert isinstance(made, Snapshot), made
    assert made.notices == ()
    return made


@pytest.fixture(scope="module")
def private() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


def key_of(private: rsa.RSAPrivateKey, kid: str) -> IssuerKey:
    """As the provider's key set would give it."""
    members = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(private.public_key()))
    return read_jwk_set(json.dumps({"keys": [{**members, "kid": kid}]}).encode()).keys[kid]


def verdict(
    snapshot: Snapshot, token: dict[str, Any], private: rsa.RSAPrivateKey, at: float
) -> Principal | Reason:
    (issuer,) = snapshot.issuers.values()
    header = dict(token["header"])
    header.setdefault("typ", None)  # PyJWT adds one of its own else
    text = jwt.encode(token["claims"], private, algorithm="RS256", headers=header)
    found = read_foreign_token(text, {issuer.issuer: issuer.name})
    assert found is not None
    assert found.typ == token["header"].get("typ")
    verifier = IssuerVerifier(issuer, max_life_s=DAY_S, now=lambda: at)
    return verifier.verify(found, key_of(private, header["kid"]))


def test_each_provider_has_its_folder() -> None:
    assert {one.name for one in EXAMPLES.iterdir() if one.is_dir()} == set(PROVIDERS)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_token_of_the_provider_is_taken_and_let_through(
    provider: str, private: rsa.RSAPrivateKey
) -> None:
    snapshot = world(provider)
    token = json.loads((EXAMPLES / provider / "token.json").read_text())
    at = float(token["claims"]["iat"] + 10)
    caller = verdict(snapshot, token, private, at)
    assert isinstance(caller, Principal), caller
    assert caller.subject == PROVIDERS[provider]
    asked = SimulatedRequest("GET", "/orders/7", caller, clock=FixedClock(at))
    assert simulate(asked, snapshot).decision.reason == Reason.RULE_ALLOWED


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize(
    "changed",
    [{"aud": "another", "client_id": "another"}, {"exp": 1}, {"nonce": "n", "at_hash": "h"}],
    ids=["for another", "over", "an ID token"],
)
def test_another_token_of_the_same_provider_is_not(
    provider: str, changed: dict[str, Any], private: rsa.RSAPrivateKey
) -> None:
    if provider == "google" and "nonce" in changed:
        changed = {"scope": "openid"}  # there it is access tokens that are refused
    snapshot = world(provider)
    token = json.loads((EXAMPLES / provider / "token.json").read_text())
    at = float(token["claims"]["iat"] + 10)
    token["claims"] |= changed
    assert isinstance(verdict(snapshot, token, private, at), Reason)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_its_tests_pass_and_notice_every_mutant(
    provider: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(EXAMPLES / provider)
    code = main(["test", "--mutate", "--fail-under", "100"])
    assert code == 0, capsys.readouterr().out


@pytest.mark.parametrize("provider", PROVIDERS)
def test_explain_tells_whom_the_claims_speak_of(
    provider: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(EXAMPLES / provider)
    words = ("--issuer", provider, "--claims", "token.json", "--at", "2026-01-05T08:00:10Z")
    assert main(["explain", "GET", "/orders/7", *words]) == 0
    said = capsys.readouterr().out
    assert "allowed by rule by-role" in said
    assert PROVIDERS[provider] in said
