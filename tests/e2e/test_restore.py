"""A backup that is restored under a gateway that runs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.running import Running, started
from tests.e2e.processes import until, workers

pytestmark = pytest.mark.slow

EMAIL = "restored@example.com"


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Running]:
    with started(tmp_path / "g", "--workers", "2") as running:
        until(lambda: len(workers(running)) == 2, 20)
        yield running


def active(running: Running) -> str:
    rows = json.loads(running.cli("keys", "list", "--json").stdout)
    (kid,) = [row["kid"] for row in rows if row["state"] == "active"]
    return str(kid)


def test_a_key_that_was_revoked_after_the_backup_never_signs_or_verifies_again(
    pair: Running,
) -> None:
    """A worker that remembers the revocation would sign with the key and refuse what it signed;
    one that was started anew would take what a thief signs."""
    account = pair.sign_in(EMAIL)
    leaked = active(pair)
    assert pair.cli("db", "backup", "kept").returncode == 0
    assert pair.confirmed("revoke", "key", leaked).returncode == 0
    assert pair.cli("db", "restore", "kept").returncode == 0

    assert active(pair) != leaked
    for _ in range(6):
        token = pair.sign_in(EMAIL)["access_token"]
        answer = pair.call("GET", "/me", ("Authorization", f"Bearer {token}"))
        assert answer.status == 200, answer.body
    old = pair.call("GET", "/me", ("Authorization", f"Bearer {account['access_token']}"))
    assert old.status == 401
    jwks = pair.call("GET", "/.well-known/jwks.json").json
    assert leaked not in {key["kid"] for key in jwks["keys"]}
    states = {one["dependencies"]["keys"] for one in pair.admin("/readyz").json["workers"]}
    assert states == {"known"}
