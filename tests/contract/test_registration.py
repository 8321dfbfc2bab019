"""A gateway that nobody may register at without being asked, as `gateway serve` is by itself."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.contract.running import Running, started

WHO = {"email": "ann@example.com", "password": "correct horse 7 battery"}


@pytest.fixture(scope="module")
def invited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with started(tmp_path_factory.mktemp("invited") / "g", GATEWAY_REGISTRATION="") as running:
        yield running


def test_serve_lets_no_stranger_register(invited: Running) -> None:
    answer = invited.call("POST", "/auth/register", json_body=WHO)
    assert (answer.status, answer.reason) == (403, "registration_closed")
    made = invited.cli("users", "create", WHO["email"], "--password-stdin", stdin=WHO["password"])
    assert made.returncode == 0, made.stderr
    assert invited.call("POST", "/auth/login", json_body=WHO).status == 200


def test_validate_and_doctor_say_what_every_account_may(invited: Running) -> None:
    def told(mode: str, *words: str) -> str:
        environment = invited.environment | {"GATEWAY_REGISTRATION": mode}
        there = Running(**{**vars(invited), "environment": environment})
        done = there.cli(*words)
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    for mode in ("", "closed"):
        assert "signed-in" not in told(mode, "validate")
    assert " more): `policy: signed-in` allows every account" in told("open", "validate")
    notices = json.loads(told("open", "validate", "--json"))["notices"]
    assert "anybody may make one" in notices[-1]["problem"]
    findings = {mode: json.loads(told(mode, "doctor", "--json")) for mode in ("open", "closed")}
    states = {
        m: next(f for f in found if f["check"] == "registration") for m, found in findings.items()
    }
    assert states["closed"] == {"check": "registration", "state": "good", "detail": "closed"}
    assert states["open"]["state"] == "warning"
    assert "route `me`" in states["open"]["detail"]
