"""Two nodes on one PostgreSQL and one Redis."""

from __future__ import annotations

import base64
import dataclasses
import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import pytest

from tests.contract.running import Running, started
from tests.e2e.processes import until
from tests.fixtures_stores import schema_of
from tests.forked import GATEWAY
from tests.ports import free_port
from tests.servers import ValkeyServer

pytestmark = pytest.mark.slow

SECRET = base64.b64encode(os.urandom(32)).decode()


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    server = ValkeyServer(tmp_path_factory.mktemp("valkey")).start()
    try:
        yield server.url
    finally:
        server.kill()


@pytest.fixture(scope="module")
def node(
    tmp_path_factory: pytest.TempPathFactory, postgres_database_url: str, valkey: str
) -> Iterator[Running]:
    """Whoever is refused beside it leaves it as it is."""
    with (
        schema_of(postgres_database_url) as url,
        started(
            tmp_path_factory.mktemp("nodes") / "one",
            GATEWAY_DATABASE_URL=url,
            GATEWAY_REDIS_URL=valkey,
            GATEWAY_KEY_SECRET=SECRET,
            GATEWAY_PUBLIC_URL="http://127.0.0.1:8080",
        ) as running,
    ):
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
        # Whoever waits for less would call a sign-out confirmed that the other has not heard of.
        ("GATEWAY_MAX_STALENESS_S", "30"),
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


def started_at_once(
    stack: ExitStack, nodes: Sequence[AbstractContextManager[Running]]
) -> tuple[list[Running], list[str]]:
    """Those that run, until the stack is closed, and what the others said."""
    running: list[Running] = []
    refused: list[str] = []
    with ThreadPoolExecutor() as pool:
        starting = [(node, pool.submit(node.__enter__)) for node in nodes]
        for node, start in starting:
            if (error := start.exception()) is None:
                running.append(start.result())
                stack.push(node.__exit__)
            else:
                refused.append(str(error))
    return running, refused


def test_of_nodes_that_start_at_once_with_a_redis_each_none_confirms_a_sign_out(
    tmp_path: Path, postgres_url: str
) -> None:
    """Whichever is so late that it finds the other is refused.  Where neither is, each has two
    workers, which speak one after the other, and neither confirms what the other does not hear."""
    settings = {
        "GATEWAY_DATABASE_URL": postgres_url,
        "GATEWAY_KEY_SECRET": SECRET,
        "GATEWAY_PUBLIC_URL": "http://127.0.0.1:8080",
    }
    with ExitStack() as stack:
        nodes = [started(tmp_path / name, "--workers", "2", **settings) for name in ("a", "b")]
        running, refused = started_at_once(stack, nodes)
        if refused:
            assert len(running) == 1
            assert "give every node the same GATEWAY_REDIS_URL" in refused[0]
            return
        here, there = running

        def signed_out() -> set[int]:
            statuses = set()
            for _ in range(6):
                token = here.sign_in("somebody@example.com")["access_token"]
                statuses.add(here.call("POST", "/auth/logout", token=token).status)
            return statuses

        until(lambda: signed_out() == {503}, 30)
        token = here.sign_in("somebody@example.com")["access_token"]
        assert here.call("POST", "/auth/logout", token=token).status == 503
        assert there.call("GET", "/me", token=token).status in (200, 401)
        assert here.cli("revoke", "user", "somebody@example.com").returncode == 3


def test_nodes_with_different_settings_that_start_at_once_confirm_nothing_and_say_so(
    tmp_path: Path, postgres_url: str, own_valkey: Callable[..., ValkeyServer]
) -> None:
    """Whichever is so late that it finds the other is refused.  Where neither is, the one with the
    shorter life would forget revocations that the other needs."""
    settings = {
        "GATEWAY_DATABASE_URL": postgres_url,
        "GATEWAY_REDIS_URL": own_valkey().url,
        "GATEWAY_KEY_SECRET": SECRET,
        "GATEWAY_PUBLIC_URL": "http://127.0.0.1:8080",
    }
    with ExitStack() as stack:
        nodes = [
            started(tmp_path / life_s, GATEWAY_MAX_TOKEN_LIFE_S=life_s, **settings)
            for life_s in ("86400", "3600")
        ]
        running, refused = started_at_once(stack, nodes)
        if refused:
            assert len(running) == 1
            assert "GATEWAY_MAX_TOKEN_LIFE_S is" in refused[0]
            return

        def signed_out() -> set[int]:
            return {
                one.call(
                    "POST",
                    "/auth/logout",
                    token=one.sign_in(f"{index}@example.com")["access_token"],
                ).status
                for index, one in enumerate(running)
            }

        until(lambda: signed_out() == {503}, 30)
        for one in running:
            told = one.log.read_text()
            assert "settings-differ" in told
            assert "GATEWAY_MAX_TOKEN_LIFE_S is" in told


def test_a_command_without_the_settings_of_redis_confirms_nothing_while_a_node_runs(
    node: Running, tmp_path: Path
) -> None:
    node.sign_in("somebody@example.com")
    environment = {**node.environment, "GATEWAY_DATA_DIR": str(tmp_path / "mine")}
    del environment["GATEWAY_REDIS_URL"]
    mistaken = dataclasses.replace(node, environment=environment)
    done = mistaken.cli("revoke", "user", "somebody@example.com")
    assert done.returncode == 3, done
    assert "a gateway of this database runs" in done.stderr
    assert done.stdout == ""


def test_a_second_gateway_on_the_same_sqlite_file_does_not_start(tmp_path: Path) -> None:
    """Each would have a Redis of its own, and hear of no sign-out of the other."""
    database = f"sqlite:///{tmp_path}/shared.db"
    own = {"GATEWAY_DATABASE_URL": database, "GATEWAY_KEY_SECRET": SECRET}
    with started(tmp_path / "one", **own) as one:
        refused = second(one, tmp_path, GATEWAY_PUBLIC_URL=one.environment["GATEWAY_PUBLIC_URL"])
    assert refused.returncode == 2, refused.stderr
    assert "GATEWAY_REDIS_URL" in refused.stderr
