"""What an operator relies on: commands, settings, the admin listener."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest

from gateway.stores.embedded import embedded_url
from tests.contract.answers import Answer
from tests.contract.running import Running, wait_as_told
from tests.forked import run_command


def run(folder: Path, *words: str, **settings: str) -> subprocess.CompletedProcess[str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("GATEWAY_")}
    environment = {**kept, "GATEWAY_DATA_DIR": str(folder / "data"), **settings}
    return run_command(words, folder=folder, environment=environment)


def test_healthz_readyz_and_metrics(gateway: Running) -> None:
    assert gateway.admin("/healthz").status == 200
    ready = gateway.admin("/readyz")
    assert ready.status == 200
    assert isinstance(ready.json, dict)
    metrics = gateway.admin("/metrics").body.decode()
    assert "config_stale 0" in metrics or "config_stale{" in metrics


def test_the_gateways_own_answers_are_counted_by_endpoint_and_outcome(gateway: Running) -> None:
    body = {"email": "counted@example.com", "password": "no such password"}
    assert gateway.call("POST", "/auth/login", json_body=body).status == 401
    assert gateway.call("GET", "/auth/made-up").status == 404
    assert gateway.call("DELETE", "/auth/sessions/made-up").status == 401
    assert gateway.call("GET", "/.well-known/jwks.json").status == 200
    text = gateway.admin("/metrics").body.decode()
    for labels in (
        'endpoint="/auth/login",outcome="invalid_credentials",status="401"',
        'endpoint="",outcome="route_unknown",status="404"',
        'endpoint="/auth/sessions/*",outcome="no_credential",status="401"',
        'endpoint="/.well-known/jwks.json",outcome="ok",status="200"',
    ):
        assert f"authgate_endpoint_requests_total{{{labels}}}" in text
    assert 'authgate_endpoint_duration_seconds_count{endpoint="/auth/login"}' in text
    assert "made-up" not in text


def test_unlocking_lets_the_owner_in_with_the_browser_that_is_locked_out(gateway: Running) -> None:
    """A browser that has signed in before counts by itself: that is where owners fail."""
    credentials = {"email": "locked-out@example.com", "password": "correct horse 7 battery"}
    gateway.sign_in(credentials["email"])
    signed_in = gateway.call("POST", "/auth/login", json_body=credentials)
    (device,) = [v.split(";")[0] for v in signed_in.all("set-cookie") if "__Host-device=" in v]

    def sign_in(password: str) -> Answer:
        body = {**credentials, "password": password}
        return gateway.call("POST", "/auth/login", ("Cookie", device), json_body=body)

    while (answer := sign_in("not the one 17")).status != 429 or int(
        answer.all("retry-after")[0]
    ) < 60:
        if answer.status == 429:
            wait_as_told(answer)
    assert sign_in(credentials["password"]).status == 429
    assert gateway.cli("users", "unlock", credentials["email"]).returncode == 0
    assert sign_in(credentials["password"]).status == 200


def test_the_admin_listener_refuses_a_foreign_host(gateway: Running) -> None:
    assert gateway.admin("/healthz", ("Host", "evil.example")).status == 403
    assert gateway.admin("/readyz", ("Host", f"localhost:{gateway.admin_port}")).status == 200


def test_the_admin_page_asks_for_a_token(gateway: Running) -> None:
    assert gateway.admin("/admin").status == 401


def test_validate_names_every_problem_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "policies").mkdir()
    (tmp_path / "routes.yaml").write_text(
        "version: 1\nupstreams:\n  a: {targets: [http://127.0.0.1:1]}\nroutes:\n"
        "  - id: one\n    match: {path: /one}\n    upstream: b\n    policy: nope\n"
        "  - id: two\n    match: {path: two}\n    auth: public\n    upstream: a\n    colour: red\n"
    )
    answer = run(tmp_path, "validate")
    assert answer.returncode == 1
    text = answer.stdout + answer.stderr
    assert "routes.yaml:7:" in text
    assert "routes.yaml:8:" in text
    assert "routes.yaml:10:" in text
    assert "routes.yaml:13:" in text
    assert "Traceback" not in text


def test_explain_says_file_and_line(gateway: Running) -> None:
    words = [
        "explain",
        "GET",
        "/v1/users/u1/orders/7",
        "--roles",
        "viewer",
        "--user-id",
        "u1",
        "--json",
    ]
    allowed = gateway.cli(*words)
    assert allowed.returncode == 0, allowed.stderr
    said = json.loads(allowed.stdout)
    assert set(said) >= {"decision", "status", "reason", "route", "policy", "rule", "file", "line"}
    assert (said["route"], said["policy"], said["rule"]) == ("orders", "orders", "own-orders")
    assert said["file"].endswith("orders.yaml")
    assert said["line"] == 7
    denied = gateway.cli("explain", "GET", "/v1/users/u2/orders/7", "--user-id", "u1", "--json")
    assert denied.returncode == 1
    assert json.loads(denied.stdout)["reason"] == "no_rule"
    assert gateway.cli(
        "explain", "GET", "/v1/users/u2/orders/7", "--as", "nobody@example.com"
    ).returncode in (1, 2)


def test_wrong_usage_is_2_without_a_traceback(tmp_path: Path) -> None:
    for words in (["nonsense"], ["users", "create"], ["serve", "--workers", "many"]):
        answer = run(tmp_path, *words)
        assert answer.returncode == 2, words
        assert "Traceback" not in answer.stderr


def test_every_wrong_setting_is_listed_at_once(tmp_path: Path) -> None:
    secret = "c2VjcmV0LXZhbHVlLXRoYXQtbXVzdC1ub3QtbGVhaw"
    answer = run(
        tmp_path,
        "serve",
        GATEWAY_PUBLIC_URL="http://example.com",
        GATEWAY_ACCESS_TTL_S="soon",
        GATEWAY_KEY_SECRET=secret[:12],
        GATEWAY_SIGNING_ALG="HS256",
    )
    assert answer.returncode == 2
    text = answer.stdout + answer.stderr
    for name in (
        "GATEWAY_PUBLIC_URL",
        "GATEWAY_ACCESS_TTL_S",
        "GATEWAY_SIGNING_ALG",
        "GATEWAY_KEY_SECRET",
    ):
        assert name in text
    assert secret[:12] not in text
    assert "Traceback" not in text


def test_a_wrong_configuration_never_starts(tmp_path: Path) -> None:
    (tmp_path / "routes.yaml").write_text("version: 1\nroutes: 7\n")
    (tmp_path / "policies").mkdir()
    answer = run(tmp_path, "serve", GATEWAY_EMAIL_VERIFICATION="off")
    assert answer.returncode == 1
    assert "routes.yaml:2" in answer.stdout + answer.stderr


def test_a_first_start_that_is_refused_makes_no_store(tmp_path: Path) -> None:
    (tmp_path / "routes.yaml").write_text("version: 1\nroutes: 7\n")
    assert run(tmp_path, "serve").returncode == 1
    assert not (tmp_path / "data" / "valkey").exists()
    assert not (tmp_path / "data" / "gateway.db").exists()


def test_a_later_start_that_is_refused_leaves_no_server_behind(tmp_path: Path) -> None:
    """It has read what it holds while the configuration was read."""
    (tmp_path / "routes.yaml").write_text("version: 1\nroutes: 7\n")
    (tmp_path / "data" / "valkey").mkdir(parents=True)
    assert run(tmp_path, "serve").returncode == 1
    url = embedded_url(tmp_path / "data")
    assert url is not None
    with socket.socket(socket.AF_UNIX) as asking, pytest.raises(OSError, match=r"refused|No such"):
        asking.connect(url.removeprefix("unix://"))


def test_dev_refuses_anything_but_loopback(tmp_path: Path) -> None:
    answer = run(tmp_path, "dev", GATEWAY_LISTEN="0.0.0.0:0")
    assert answer.returncode == 2


def until(condition: object, seconds: float = 40) -> bool:
    """Whether it came true; a file that is watched from outside has no event to wait for."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():  # type: ignore[operator]
            return True
        threading.Event().wait(0.05)
    return False


def test_an_edit_is_live_soon_and_a_broken_one_never(gateway: Running) -> None:
    routes = gateway.folder / "routes.yaml"
    good = routes.read_text()
    try:
        more = (
            good
            + "  - id: later\n    match: {path: /later}\n    auth: public\n    upstream: echo\n"
        )
        routes.write_text(more)
        assert until(lambda: gateway.call("GET", "/later").status == 200)
        routes.write_text(more + "  - id: broken\n")
        assert until(
            lambda: "config_stale 1" in gateway.admin("/metrics").body.decode().replace(".0", "")
        )
        assert gateway.call("GET", "/later").status == 200
    finally:
        routes.write_text(good)
    assert until(lambda: gateway.call("GET", "/later").status == 404)


def test_keys_rotate_gently_and_a_revoked_key_is_out_at_once(gateway: Running) -> None:
    session = gateway.sign_in("keys@example.com")
    listed = json.loads(gateway.cli("keys", "list", "--json").stdout)
    assert {"active", "next"} <= {k["state"] for k in listed}
    rotated = gateway.confirmed("keys", "rotate")
    assert rotated.returncode == 0, rotated.stderr
    assert gateway.call("GET", "/me", token=session["access_token"]).status == 200
    old = next(k["kid"] for k in listed if k["state"] == "active")
    revoked = gateway.confirmed("revoke", "key", old)
    assert revoked.returncode == 0, revoked.stderr
    refused = gateway.call("GET", "/me", token=session["access_token"])
    assert refused.status == 401
    assert refused.reason in ("token_revoked", "key_unknown")
    again = gateway.sign_in("keys@example.com")
    assert gateway.call("GET", "/me", token=again["access_token"]).status == 200


@pytest.mark.parametrize(
    "words", [["version"], ["keys", "secret"], ["db", "status"], ["users", "list", "--json"]]
)
def test_plain_commands_answer(gateway: Running, words: list[str]) -> None:
    answer = gateway.cli(*words)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout
