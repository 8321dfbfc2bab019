"""What `gateway serve` and `gateway dev` print when they start, and the event beside it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from pathlib import Path

import pytest

from tests.contract.running import started
from tests.forked import GATEWAY
from tests.ports import free_port

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[2]


def rows(printed: str) -> dict[str, str]:
    """The table, by the names of its rows."""
    head, *lines = printed.splitlines()
    assert re.fullmatch(r"authgate \d\S*", head)
    return {line[2:17].strip(): line[17:] for line in lines if line.startswith("  ")}


def test_serve_says_where_it_listens_with_what_and_who_may_register(tmp_path: Path) -> None:
    secret = "hunter2-hunter2"
    (tmp_path / "g").mkdir()
    (tmp_path / "g" / ".env").write_text("GATEWAY_DRAIN_S=0\n")
    with started(
        tmp_path / "g",
        "--workers",
        "2",
        until="/healthz",
        GATEWAY_REGISTRATION="open",
        GATEWAY_REGISTRATION_DOMAINS="bücher.example,example.com",
        GATEWAY_EMAIL_VERIFICATION="required",
        GATEWAY_ISSUER="https://id.example.com",
        GATEWAY_AUTH_PREFIX="/_auth",
        GATEWAY_SMTP_URL=f"smtp://mailer:{secret}@127.0.0.1:{free_port()}",
        GATEWAY_MAIL_FROM="no-reply@example.com",
        GATEWAY_REDIS_URL=f"redis://:{secret}@127.0.0.1:{free_port()}/0",
        GATEWAY_PASSWORD_PEPPER=f"{secret}-pepper",
    ) as one:
        printed = (one.folder / "out").read_text()
        log = one.log.read_text()
        base = f"http://127.0.0.1:{one.port}"
        told = rows(printed)
        version = json.loads(one.cli("validate", "--json").stdout)["version"]
        assert told.pop("mail").startswith("smtp://mailer@127.0.0.1:")
        assert told.pop("redis").startswith("redis://127.0.0.1:")
        assert told == {
            "listening": base,
            "admin": f"http://127.0.0.1:{one.admin_port}",
            "public URL": base,
            "issuer": "https://id.example.com",
            "endpoints": f"{base}/_auth/…",
            "registration": "open to addresses of xn--bcher-kva.example, example.com;"
            " e-mail verification required",
            "settings": f"the environment, {one.folder}/.env",
            "configuration": f"{one.folder}/routes.yaml and {one.folder}/policies/"
            f" (version {version})",
            "database": f"{one.folder}/data/gateway.db",
            "data folder": f"{one.folder}/data",
            "workers": "2",
        }
        starting = next(
            line for line in map(json.loads, log.splitlines()) if line["event"] == "starting"
        )
    assert starting["registration"] == "open"
    assert starting["registration_domains"] == ["xn--bcher-kva.example", "example.com"]
    assert starting["issuer"] == "https://id.example.com"
    assert starting["auth_prefix"] == "/_auth"
    assert starting["routes"] == f"{one.folder}/routes.yaml"
    # Nobody but a terminal is shown colours.
    assert "\x1b" not in printed
    assert secret not in printed + log


def test_dev_prints_the_same_before_its_lines(tmp_path: Path) -> None:
    port, admin, demo = free_port(), free_port(), free_port()
    kept = {k: v for k, v in os.environ.items() if not k.startswith("GATEWAY_")}
    log = tmp_path / "log"
    with log.open("w") as written:
        process = subprocess.Popen(
            [str(GATEWAY), "dev", "--listen", f"127.0.0.1:{port}", "--admin-listen",
             f"127.0.0.1:{admin}", "--demo-listen", f"127.0.0.1:{demo}"],
            env={
                **kept,
                "GATEWAY_DATA_DIR": str(tmp_path / "data"),
                # Named: whoever has run `make run` here has one in the folder.
                "GATEWAY_DATABASE_URL": f"sqlite:///{tmp_path}/named.db",
            },
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            stderr=written,
            text=True,
        )  # fmt: skip
    assert process.stdout is not None
    try:
        printed = ""
        for line in process.stdout:
            if line.startswith("Try it;"):
                break
            printed += line
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    assert printed, log.read_text()
    told = rows(printed)
    assert told["registration"] == "open; e-mail verification off"
    assert told["listening"] == f"http://127.0.0.1:{port}"
    assert told["redis"] == "embedded"
    assert told["mail"] == "outbox only"
    assert "issuer" not in told


def test_a_start_whose_output_nobody_takes_is_a_start(tmp_path: Path) -> None:
    full = ("sh", "-c", 'exec "$0" "$@" >/dev/full')
    with started(tmp_path / "g", within=full) as one:
        assert one.call("GET", "/public/x").status == 200
