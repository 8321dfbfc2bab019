"""Starts that are not as they should be: a store is away, a file is wrong, TLS is asked for."""

from __future__ import annotations

import os
import shutil
import signal
import ssl
import subprocess
import tempfile
import urllib.request
from pathlib import Path

import pytest

from tests.certificates import self_signed
from tests.contract.running import Running, started
from tests.e2e.processes import children, heaps, public_works, ready, until, workers
from tests.forked import GATEWAY
from tests.ports import free_port
from tests.servers import PostgresServer, ValkeyServer

pytestmark = pytest.mark.slow


def answers_public_routes_only(running: Running) -> None:
    assert public_works(running)
    assert running.admin("/readyz").status == 503
    login = running.call("POST", "/auth/login", json_body={"email": "a@b.example", "password": "x"})
    assert login.status == 503
    assert login.get("retry-after") is not None
    assert running.call("GET", "/me").reason == "no_credential"


def test_a_start_without_redis_serves_public_routes_and_heals_by_itself(tmp_path: Path) -> None:
    port = free_port()
    url = f"redis://127.0.0.1:{port}"
    with started(tmp_path / "g", until="/healthz", GATEWAY_REDIS_URL=url) as one:
        until(lambda: public_works(one), 10)
        assert one.admin("/readyz").status == 503
        assert one.call("GET", "/me").reason == "no_credential"
        valkey = ValkeyServer(tmp_path / "valkey", port).start()
        try:
            until(lambda: one.admin("/readyz").status == 200, 10)
            token = one.sign_in("later@example.com")["access_token"]
            assert one.call("GET", "/me", token=token).status == 200
        finally:
            valkey.kill()


def test_a_start_without_sql_serves_public_routes_and_heals_by_itself(tmp_path: Path) -> None:
    # Its server runs as another user, who may not enter pytest's own folder.
    place = Path(tempfile.mkdtemp())
    place.chmod(0o755)
    server = PostgresServer(place / "server")
    with started(
        tmp_path / "g", "--workers", "2", until="/healthz", GATEWAY_DATABASE_URL=server.url
    ) as one:
        until(lambda: public_works(one), 10)
        answers_public_routes_only(one)
        server.start()
        try:
            until(lambda: one.admin("/readyz").status == 200, 20)
            until(lambda: len(workers(one)) == 2, 10)
            token = one.sign_in("later@example.com")["access_token"]
            assert one.call("GET", "/me", token=token).status == 200
        finally:
            server.kill()
            shutil.rmtree(place)


def test_a_worker_replaced_while_the_stores_are_away_serves_public_routes(tmp_path: Path) -> None:
    """It must not take the master down with it, and it answers 503 to the rest."""
    valkey = ValkeyServer(tmp_path / "valkey").start()
    with started(tmp_path / "g", "--workers", "2", GATEWAY_REDIS_URL=valkey.url) as one:
        until(lambda: len(workers(one)) == 2, 10)
        token = one.sign_in("early@example.com")["access_token"]
        valkey.kill()
        before = children(one.process.pid)
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        until(lambda: len(ready(one)["workers"]) == 2, 20)
        assert set(children(one.process.pid)).isdisjoint(before)
        assert all(public_works(one) for _ in range(6))
        refused = {one.call("GET", "/me", token=token).reason for _ in range(6)}
        assert refused <= {"replica_stale", "store_unavailable"}
        valkey.start()
        try:
            until(lambda: len(workers(one)) == 2, 15)
            assert one.call("GET", "/me", token=token).status == 200
        finally:
            valkey.kill()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `cert.pem` and `key.pem` for 127.0.0.1, signed by itself."""
    folder = tmp_path_factory.mktemp("tls")
    self_signed("127.0.0.1").write(folder)
    return folder


def test_tls_is_spoken_with_the_certificate_of_the_settings(
    tmp_path: Path, certificate: Path
) -> None:
    port = free_port()
    with started(
        tmp_path / "g",
        GATEWAY_LISTEN=f"127.0.0.1:{port}",
        GATEWAY_PUBLIC_URL=f"https://127.0.0.1:{port}",
        GATEWAY_TLS_CERT=str(certificate / "cert.pem"),
        GATEWAY_TLS_KEY=str(certificate / "key.pem"),
    ):
        context = ssl.create_default_context(cafile=str(certificate / "cert.pem"))
        with urllib.request.urlopen(
            f"https://127.0.0.1:{port}/public/x", context=context, timeout=10
        ) as answer:
            assert b"X-Forwarded-Proto" in answer.read()
            assert "max-age" in answer.headers["Strict-Transport-Security"]
        old = ssl.create_default_context(cafile=str(certificate / "cert.pem"))
        old.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises(OSError, match=r"(?i)ssl|reset|protocol"):
            urllib.request.urlopen(f"https://127.0.0.1:{port}/", context=old, timeout=10)


def refused(folder: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """`gateway serve` with the shipped configuration, which must not start."""
    repository = Path(__file__).parents[2]
    folder.mkdir(exist_ok=True)
    shutil.copy(repository / "routes.yaml", folder)
    shutil.copytree(repository / "policies", folder / "policies", dirs_exist_ok=True)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GATEWAY_")}
    return subprocess.run(
        [str(GATEWAY), "serve"],
        cwd=folder,
        env=environment
        | {
            "GATEWAY_LISTEN": f"127.0.0.1:{free_port()}",
            "GATEWAY_ADMIN_LISTEN": f"127.0.0.1:{free_port()}",
            "GATEWAY_BCRYPT_ROUNDS": "10",
            "GATEWAY_SIGNING_ALG": "EdDSA",
            "PYTHONPATH": str(repository),
        }
        | settings,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_keys_sealed_under_another_secret_are_told_at_the_start(tmp_path: Path) -> None:
    folder = tmp_path / "g"
    settings = {"GATEWAY_SIGNING_ALG": "ES256"}
    secrets = [os.urandom(32).hex() for _ in range(2)]
    with started(folder, GATEWAY_KEY_SECRET=secrets[0], **settings):
        pass
    done = refused(
        folder,
        GATEWAY_KEY_SECRET=secrets[1],
        GATEWAY_DATABASE_URL=f"sqlite:///{folder}/data/gateway.db",
        **settings,
    )
    assert done.returncode == 1
    assert "GATEWAY_KEY_SECRET" in done.stderr
    assert secrets[0] not in done.stderr
    assert secrets[1] not in done.stderr


def test_a_damaged_key_secret_is_told_at_the_start(tmp_path: Path) -> None:
    (tmp_path / ".gateway").mkdir()
    (tmp_path / ".gateway" / "key-secret").write_text("damaged\n")
    done = refused(tmp_path)
    assert done.returncode == 2
    assert "key-secret" in done.stderr


def test_a_letter_that_cannot_be_filled_is_told_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "mail").mkdir()
    (tmp_path / "mail" / "verify.txt").write_text("Subject: hello\n\n$nothing_we_know\n")
    done = refused(tmp_path)
    assert done.returncode == 1
    assert "verify" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_redis_url_that_names_nothing_is_told_at_the_start(tmp_path: Path) -> None:
    done = refused(tmp_path, GATEWAY_REDIS_URL="redis+sentinel://:hunter2@host:1")
    assert done.returncode == 2
    assert "hunter2" not in done.stderr
    assert "Traceback" not in done.stderr


def test_the_threads_of_a_start_have_no_heap_of_their_own(tmp_path: Path) -> None:
    # A first one: two keys are made while the files are read, and tables in a thread.
    with started(tmp_path / "g") as one:
        one.sign_in("first@example.com")
        processes = [one.process.pid, *workers(one)]
        assert [heaps(pid) for pid in processes] == [0, 0]
