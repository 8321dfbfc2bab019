"""Access tokens in the hands of a stock JWT library of another language: jose, from npm."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.contract.running import Running, started
from tests.examples.backends import INSTALLED, express_lacks

# As the documentation of jose tells a backend to do it (RFC 9068 section 4).
VERIFY = """\
import { createRemoteJWKSet, jwtVerify } from 'jose'
const [url, issuer, token] = process.argv.slice(1)
try {
  const keys = createRemoteJWKSet(new URL(`${url}/.well-known/jwks.json`))
  const { payload, protectedHeader } = await jwtVerify(token, keys, {
    issuer, audience: issuer, typ: 'at+jwt', requiredClaims: ['sub', 'jti', 'client_id', 'iat'],
  })
  console.log(JSON.stringify({ payload, protectedHeader }))
} catch (error) {
  console.log(JSON.stringify({ code: error.code }))
}
"""


@pytest.fixture(scope="module", autouse=True)
def installed() -> None:
    if lacking := express_lacks():
        pytest.skip(f"jose is not here: {lacking}")


def verified(gateway: Running, token: str) -> Any:
    url = f"http://127.0.0.1:{gateway.port}"
    done = subprocess.run(
        ["node", "--input-type=module", "-e", VERIFY, url, url, token],
        cwd=INSTALLED, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    return json.loads(done.stdout)


def test_jose_verifies_an_access_token_by_the_published_keys(gateway: Running) -> None:
    signed = gateway.sign_in("jose@example.com")
    token = str(signed["access_token"])
    found = verified(gateway, token)
    assert found["payload"]["sub"] == found["payload"]["user_id"]
    assert found["payload"]["email"] == "jose@example.com"
    assert found["protectedHeader"]["typ"] == "at+jwt"


def test_jose_refuses_what_was_changed_and_what_is_no_access_token(gateway: Running) -> None:
    signed = gateway.sign_in("jose.two@example.com")
    head, claims, signature = str(signed["access_token"]).split(".")
    swapped = "B" if signature[9] == "A" else "A"
    changed = f"{head}.{claims}.{signature[:9]}{swapped}{signature[10:]}"
    assert verified(gateway, changed) == {"code": "ERR_JWS_SIGNATURE_VERIFICATION_FAILED"}
    assert "code" in verified(gateway, str(signed["refresh_token"]))


def test_jose_verifies_what_is_signed_after_a_rotation_and_before_it(tmp_path: Path) -> None:
    # A gateway of its own: where keys have just changed, a rotation is put off.
    with started(tmp_path / "g") as gateway:
        before = str(gateway.sign_in("jose.three@example.com")["access_token"])
        rotated = gateway.cli("keys", "rotate", "--json")
        assert json.loads(rotated.stdout)["state"] == "rotated", rotated.stderr
        after = str(gateway.sign_in("jose.three@example.com")["access_token"])
        kids = [verified(gateway, token)["protectedHeader"]["kid"] for token in (before, after)]
    assert kids[0] != kids[1]
