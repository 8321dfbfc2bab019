"""Access tokens: what is minted with an imported key, judged over plain sockets."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.contract.running import Running

Mint = Callable[..., str]


@pytest.fixture(scope="module")
def kid_and_key(
    gateway: Running, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, ec.EllipticCurvePrivateKey]]:
    key = ec.generate_private_key(ec.SECP256R1())
    pem = Path(tmp_path_factory.mktemp("keys")) / "key.pem"
    pem.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    imported = gateway.cli("keys", "import", str(pem), "--verify-only")
    assert imported.returncode == 0, imported.stderr
    yield imported.stdout.strip(), key
    gateway.cli("revoke", "key", imported.stdout.strip())


@pytest.fixture
def mint(gateway: Running, kid_and_key: tuple[str, ec.EllipticCurvePrivateKey]) -> Mint:
    """A token of the imported key; `...` leaves a claim out."""
    kid, key = kid_and_key
    origin = f"http://127.0.0.1:{gateway.port}"

    def make(*, header: dict[str, Any] | None = None, **changed: Any) -> str:
        now = int(time.time())
        claims: dict[str, Any] = {
            "iss": origin,
            "aud": origin,
            "sub": "robot:7",
            "user_id": "robot:7",
            "roles": ["viewer"],
            "sid": "s-7",
            "jti": "t-7",
            "iat": now,
            "exp": now + 300,
        }
        claims = {k: v for k, v in {**claims, **changed}.items() if v is not ...}
        headers = {"kid": kid, "typ": "at+jwt", **(header or {})}
        text = [_part({"alg": "ES256", **headers}), _part(claims)]
        signed = ".".join(text).encode()
        signature = jwt.get_algorithm_by_name("ES256").sign(signed, key)
        return f"{'.'.join(text)}.{jwt.utils.base64url_encode(signature).decode()}"

    return make


def _part(value: dict[str, Any]) -> str:
    return jwt.utils.base64url_encode(json.dumps(value).encode()).decode()


def test_a_token_of_an_imported_key_passes_without_an_account(gateway: Running, mint: Mint) -> None:
    answer = gateway.call("GET", "/me", token=mint())
    assert answer.status == 200
    assert b"robot:7" in answer.body


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"sub": ...}, "token_malformed"),
        ({"sub": "a b"}, "token_malformed"),
        ({"sid": ...}, "token_malformed"),
        ({"jti": ...}, "token_malformed"),
        ({"exp": ...}, "token_claims_invalid"),
        ({"iat": True}, "token_claims_invalid"),
        ({"exp": 1e12}, "token_claims_invalid"),
        ({"roles": "admin"}, "token_malformed"),
        ({"roles": ["a,b"]}, "token_malformed"),
        ({"email": "a\r\nX-Auth-Roles: admin"}, "token_claims_invalid"),
        ({"header": {"jku": "http://127.0.0.1:1/jwks.json"}}, "token_malformed"),
        ({"header": {"crit": ["exp"]}}, "token_malformed"),
        ({"header": {"kid": ["x"]}}, "token_malformed"),
        ({"header": {"kid": "../../etc/passwd"}}, "key_unknown"),
        ({"header": {"alg": "none"}}, "token_signature_invalid"),
        ({"header": {"alg": "HS256"}}, "token_signature_invalid"),
        ({"header": {"alg": "RS256"}}, "token_signature_invalid"),
        ({"header": {"typ": "JWT"}}, "token_claims_invalid"),
        ({"header": {"typ": "authgate-assertion+jwt"}}, "token_claims_invalid"),
        ({"iss": "http://127.0.0.1"}, "token_claims_invalid"),
        ({"aud": "elsewhere"}, "token_claims_invalid"),
        (
            {"iat": int(time.time()) + 36_000, "exp": int(time.time()) + 36_300},
            "token_claims_invalid",
        ),
        ({"exp": int(time.time()) + 90_000}, "token_claims_invalid"),
        ({"exp": int(time.time()) - 1}, "token_expired"),
    ],
)
@pytest.mark.parametrize("path", ["/me", "/maybe"])
def test_a_token_that_is_not_right_is_refused_even_where_none_is_needed(
    gateway: Running, mint: Mint, path: str, changed: dict[str, Any], reason: str
) -> None:
    # CVE-2021-21378: on an optional route as on one that requires it.
    answer = gateway.call("GET", path, token=mint(**changed))
    assert (answer.status, answer.reason) == (401, reason)
    assert 'error="invalid_token"' in (answer.get("www-authenticate") or "")


def test_a_token_over_8_kib_is_refused(gateway: Running, mint: Mint) -> None:
    answer = gateway.call("GET", "/me", token=mint(more="x" * 6500))
    assert (answer.status, answer.reason) == (401, "token_malformed")


def test_a_token_in_a_query_is_no_credential(gateway: Running, mint: Mint) -> None:
    answer = gateway.call("GET", f"/me?access_token={mint()}")
    assert (answer.status, answer.reason) == (401, "no_credential")


def test_an_answer_shows_nothing_of_the_token(gateway: Running, mint: Mint) -> None:
    # CVE-2022-29266
    text = mint(sub="needle in a haystack")
    answer = gateway.call("GET", "/me", token=text)
    assert answer.status == 401
    assert b"needle" not in answer.body
    assert text[-20:].encode() not in answer.body


def test_a_revoked_key_ends_its_tokens_on_the_next_call(gateway: Running, tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    pem = tmp_path / "key.pem"
    pem.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    kid = gateway.cli("keys", "import", str(pem), "--verify-only").stdout.strip()
    origin, now = f"http://127.0.0.1:{gateway.port}", int(time.time())
    claims = {"iss": origin, "aud": origin, "sub": "r", "sid": "s", "jti": "t"}
    headers = {"kid": kid, "typ": "at+jwt"}
    text = jwt.encode({**claims, "iat": now, "exp": now + 60}, key, "ES256", headers)
    assert gateway.call("GET", "/me", token=text).status == 200
    assert gateway.cli("revoke", "key", kid).returncode == 0
    refused = gateway.call("GET", "/me", token=text)
    assert refused.status == 401
    assert refused.reason in ("token_revoked", "key_unknown")
    again = gateway.cli("keys", "import", str(pem), "--verify-only")
    assert again.returncode == 1
    assert "does not come back" in again.stderr


def test_random_kids_are_answered_and_good_tokens_beside_them_pass(
    gateway: Running, mint: Mint
) -> None:
    good = mint()
    assert gateway.call("GET", "/me", token=good).status == 200
    for number in range(3):
        began = time.monotonic()
        answer = gateway.call("GET", "/me", token=mint(header={"kid": f"{number:043d}"}))
        assert (answer.status, answer.reason) == (401, "key_unknown")
        assert time.monotonic() - began < 2
    assert gateway.call("GET", "/me", token=good).status == 200


@pytest.mark.parametrize("path", ["/auth/me", "/auth/sessions"])
def test_the_endpoints_of_an_account_answer_one_who_has_none(
    gateway: Running, mint: Mint, path: str
) -> None:
    assert gateway.call("GET", path, token=mint()).status < 500
