"""Two nodes on one PostgreSQL and one Redis."""

from __future__ import annotations

import base64
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.running import GATEWAY, Running, started
from tests.servers import ValkeyServer, free_port

SECRET = base64.b64encode(os.urandom(32)).decode()


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[str]:
    server = ValkeyServer(tmp_path / "valkey").start()
    try:
        yield server.url
    finally:
        server.kill()


@pytest.fixture
def node(tmp_path: Path, postgres_url: str, valkey: str) -> Iterator[Running]:
    with started(
        tmp_path / "one",
        GATEWAY_DATABASE_URL=postgres_url,
        GATEWAY_REDIS_URL=valkey,
        GATEWAY_KEY_SECRET=SECRET,
        GATEWAY_PUBLIC_URL="http://127.0.0.1:8080",
    ) as running:
        yield running


def second(node: Running, tmp_path: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """A second node that is to refuse its start, on ports that nobody uses."""
    environment = {
        **node.environment,
        "GATEWAY_DATA_DIR": str(tmp_path / "two"),
        "GATEWAY_LISTEN": f"127.0.0.1:{free_port()}",
        "GATEWAY_ADMIN_LISTEN": f"127.0.0.1:{free_port()}",
        **settings,
    }
    return subprocess.run(
        [str(GATEWAY), "serve"],
        cwd=node.folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GATEWAY_PUBLIC_URL", "http://localhost:8080"),
        ("GATEWAY_PASSWORD_PEPPER", "another pepper, of thirty-two bytes"),
    ],
)
def test_a_node_that_differs_from_the_one_that_runs_does_not_start(
    node: Running, tmp_path: Path, name: str, value: str
) -> None:
    refused = second(node, tmp_path, **{name: value})
    assert refused.returncode == 2, refused.stderr
    assert f"{name} " in refused.stderr
    assert "stop every node first" in refused.stderr
    assert "another pepper" not in refused.stderr
    doctor = subprocess.run(
        [str(GATEWAY), "doctor"],
        cwd=node.folder,
        env={**node.environment, name: value},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert doctor.returncode == 1
    assert name in doctor.stdout


@pytest.mark.parametrize("redis", ["another", "embedded"])
def test_a_node_with_another_redis_does_not_start(
    node: Running, tmp_path: Path, redis: str
) -> None:
    """It would never hear of the other's sign-outs, which are answered 204."""
    other = ValkeyServer(tmp_path / "other").start()
    try:
        url = other.url if redis == "another" else "embedded:"
        refused = second(node, tmp_path, GATEWAY_REDIS_URL=url)
    finally:
        other.kill()
    assert refused.returncode == 2, refused.stderr
    assert "GATEWAY_REDIS_URL" in refused.stderr
