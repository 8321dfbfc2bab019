"""Secrets towards upstreams, through a started gateway."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.running import Running, started
from tests.e2e.processes import metric, until
from tests.forked import run_command

ROUTES = """\
version: 1
decision_api: {{trusted_peers: [127.0.0.1/32]}}
upstreams:
  echo: {{targets: ["http://127.0.0.1:{port}"]}}
  down: {{targets: ["http://127.0.0.1:{dead}"]}}
routes:
  - id: ready
    match: {{path: "/public/{{rest:path}}"}}
    auth: public
    upstream: echo
  - id: api
    match: {{path: /api}}
    auth: public
    upstream: echo
    request:
      set_headers:
        Authorization: {{secret: api-token, prefix: "Bearer "}}
        X-Api-Key: {{secret: other}}
  - id: down
    match: {{path: /down}}
    auth: public
    upstream: down
    request: {{set_headers: {{Authorization: {{secret: api-token}}}}}}
"""
FIRST, SECOND, OTHER = "f1rst-s3cret-aaaa", "s3cond-s3cret-bbbb", "0ther-s3cret-cccc"
THIRD = "th1rd-s3cret-dddd"
"""As long as the first."""
TESTS = """version: 1
cases:
  - {request: GET /api, expect: {headers: {Authorization: "***", X-Api-Key: guessed}}}
"""


@pytest.fixture
def chosen(tmp_path: Path) -> Iterator[Running]:
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "api-token").write_text(FIRST + "\n")
    settings = {
        "GATEWAY_SECRETS_DIR": str(secrets),
        "GATEWAY_SECRET_OTHER": OTHER,
        "GATEWAY_LOG_LEVEL": "debug",
        "GATEWAY_DECISION_LOG": "1",
        "GATEWAY_ACCESS_LOG": "all",
    }
    with started(tmp_path / "g", "--workers", "2", routes=ROUTES, **settings) as running:
        yield running


def arrived(running: Running, *fields: tuple[str, str]) -> dict[str, list[str]]:
    answer = running.call("GET", "/api", *fields)
    assert answer.status == 200, answer
    found: dict[str, list[str]] = {}
    for name, value in answer.json["fields"]:
        found.setdefault(name.lower().replace("_", "-"), []).append(value)
    return found


def test_a_backend_is_sent_the_secrets_and_nobody_else_sees_them(chosen: Running) -> None:
    secrets = chosen.folder.parent / "secrets"
    forged = [("Authorization", "Bearer mine"), ("X-Api-Key", "mine"), ("x_api_key", "mine")]
    for fields in ([], forged):
        seen = arrived(chosen, *fields)
        assert seen["authorization"] == [f"Bearer {FIRST}"]
        assert seen["x-api-key"] == [OTHER]

    (secrets / "api-token").write_text(SECOND + "\n")
    # Each worker looks by itself.
    until(
        lambda: all(arrived(chosen)["authorization"] == [f"Bearer {SECOND}"] for _ in range(20)),
        within_s=40,
    )
    (secrets / "api-token").write_text("two\nlines\n")
    until(lambda: 1.0 in metric(chosen, "authgate_config_stale"), within_s=40)
    assert arrived(chosen)["authorization"] == [f"Bearer {SECOND}"]
    (secrets / "api-token").write_text(FIRST)
    until(lambda: 1.0 not in metric(chosen, "authgate_config_stale"), within_s=40)

    # A file that looks as it did is read where SIGHUP asks for it.
    file = secrets / "api-token"
    until(lambda: arrived(chosen)["authorization"] == [f"Bearer {FIRST}"], within_s=40)
    before = file.stat()
    file.write_text(THIRD)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    chosen.process.send_signal(signal.SIGHUP)
    until(
        lambda: all(arrived(chosen)["authorization"] == [f"Bearer {THIRD}"] for _ in range(20)),
        within_s=40,
    )

    failed = chosen.call("GET", "/down")
    assert failed.status == 502
    (chosen.folder / "policies" / "tests").mkdir()
    (chosen.folder / "policies" / "tests" / "api.yaml").write_text(TESTS)
    decisions = chosen.folder / "data" / "decisions"
    until(lambda: any("/api" in one.read_text() for one in decisions.iterdir()), within_s=40)
    told = [
        chosen.cli("validate"),
        chosen.cli("validate", "--json"),
        chosen.cli("explain", "GET", "/api"),
        chosen.cli("explain", "GET", "/api", "--json"),
        chosen.cli("reload", "--check"),
        chosen.cli("doctor"),
        chosen.cli("diff", str(chosen.folder), str(chosen.folder)),
        chosen.cli("test"),
    ]
    assert told[0].returncode == told[1].returncode == 0, told
    assert json.loads(told[3].stdout)["headers"] == {"Authorization": "***", "X-Api-Key": "***"}
    assert "header X-Api-Key" in told[7].stdout
    assert "header Authorization" not in told[7].stdout
    shown = "".join(done.stdout + done.stderr for done in told)
    token = (chosen.folder / "data" / "admin-token").read_text().strip()
    for path in ("/readyz", "/metrics", "/healthz", "/admin", "/admin/api/state"):
        answer = chosen.admin(path, ("Authorization", f"Bearer {token}"))
        assert answer.status == 200, answer
        shown += answer.body.decode()
    shown += failed.body.decode() + str(failed.fields)
    # What it prints and logs, the decision log and the databases.
    kept = [path for path in chosen.folder.rglob("*") if path.is_file()]
    assert {"log", "out", "gateway.db"} <= {path.name for path in kept}
    shown += "".join(path.read_bytes().decode("latin-1") for path in kept)
    for secret in (FIRST, SECOND, THIRD, OTHER):
        assert secret not in shown
    assert re.search(r"api-token.*secrets-loaded", chosen.log.read_text())


def test_without_a_secret_nothing_is_started(chosen: Running) -> None:
    environment = {
        **chosen.environment,
        "GATEWAY_SECRETS_DIR": "/nowhere",
        "GATEWAY_DATA_DIR": str(chosen.folder / "other"),
        "GATEWAY_DATABASE_URL": f"sqlite:///{chosen.folder}/other/gateway.db",
    }
    for words in (["serve", "--listen", "127.0.0.1:0"], ["validate"]):
        done = run_command(
            words,
            folder=chosen.folder,
            environment=environment | {"GATEWAY_LISTEN": "127.0.0.1:0"},
        )
        assert done.returncode == 1, done
        at = next(n for n, line in enumerate(ROUTES.splitlines(), 1) if "api-token" in line)
        line = rf"routes\.yaml:{at}:\d+: there is no secret `api-token`: neither GATEWAY_SECRET_API_TOKEN"
        assert re.search(line, done.stdout + done.stderr)
        assert OTHER not in done.stdout + done.stderr
    assert chosen.cli("validate", "--texts-only").returncode == 0
    assert os.path.exists(chosen.folder / "routes.yaml")


def test_another_proxy_is_given_them_for_its_backend(chosen: Running) -> None:
    answer = chosen.admin(
        "/decide/traefik", ("X-Forwarded-Method", "GET"), ("X-Forwarded-Uri", "/api"),
        ("X-Forwarded-Host", "x"), ("X-Forwarded-Proto", "http"), ("X-Forwarded-For", "192.0.2.1"),
        ("Authorization", "Bearer mine"),
    )  # fmt: skip
    assert answer.status == 200, answer
    assert answer.all("authorization") == [f"Bearer {FIRST}"]
    assert answer.all("x-api-key") == [OTHER]
