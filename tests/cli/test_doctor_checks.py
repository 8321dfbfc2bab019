"""What an experienced colleague would look at: each finding, good and bad, and what to do."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gateway.app.settings import Settings, load
from gateway.cli import doctor_checks
from gateway.cli.doctor_checks import (
    certificate,
    descriptors,
    entropy,
    ext_authz,
    hard_limit,
    mail,
    permissions,
    private_files,
    proxies,
    public_url,
    signing_key,
    sql_connections,
)
from gateway.stores.health import State
from gateway.stores.protocols import Database
from gateway.telemetry.refusal_socket import SUFFIX
from tests.access.worlds import snapshot
from tests.certificates import self_signed
from tests.ports import free_port

SECRET = "3q2+7w8fAbcdEfgh0123456789+/ZYXWvutsrqponml="
DAY_S = 86_400


def settings(**given: str) -> Settings:
    environ = {f"GATEWAY_{name.upper()}": value for name, value in given.items()}
    return load(environ, env_file=None)


def public(**given: str) -> Settings:
    return settings(public_url="https://api.example.com", key_secret=SECRET, **given)


def test_few_open_files_are_a_warning_that_says_how_many_are_needed() -> None:
    assert descriptors(settings(), (100_000, "of this shell")).state is State.GOOD
    finding = descriptors(settings(), (1_024, "of the running workers"))
    assert finding.state is State.WARNING
    assert "LimitNOFILE=15256" in finding.detail
    assert descriptors(settings(max_connections="100"), (1_024, "")).state is State.GOOD


def test_the_limit_is_that_of_a_worker_that_runs(tmp_path: Path) -> None:
    assert hard_limit(tmp_path)[1] == "of this shell, as no gateway runs"
    (tmp_path / f"{os.getpid()}{SUFFIX}").touch()
    assert hard_limit(tmp_path)[1] == "of the running workers"
    assert hard_limit(tmp_path / "nothing")[0] == hard_limit(tmp_path)[0]


def test_a_kernel_without_randomness_is_bad(monkeypatch: pytest.MonkeyPatch) -> None:
    assert entropy().state is State.GOOD

    def unseeded(count: int, flags: int) -> bytes:
        raise BlockingIOError

    monkeypatch.setattr(os, "getrandom", unseeded)
    assert entropy().state is State.BAD


def test_a_secret_that_others_can_reach_is_bad(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor_checks, "_is_reached", lambda path: True)
    key = tmp_path / "key-secret"
    key.write_text("x")
    key.chmod(0o600)
    assert permissions([key]).state is State.GOOD
    key.chmod(0o644)
    finding = permissions([key])
    assert finding.state is State.BAD
    assert f"{key} (mode 0644): chmod o=" in finding.detail
    assert permissions([tmp_path / "gone"]).state is State.GOOD


def test_a_file_in_a_closed_folder_is_reached_by_nobody(tmp_path: Path) -> None:
    closed = tmp_path / "data"
    closed.mkdir(mode=0o700)
    (closed / "key-secret").write_text("x")
    (closed / "key-secret").chmod(0o644)
    assert permissions([closed / "key-secret"]).state is State.GOOD


def test_a_file_of_settings_is_private_where_it_holds_a_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(doctor_checks, "SERVICE_FILE", tmp_path / "none")
    env = tmp_path / ".env"
    for text, private in (
        ("GATEWAY_WORKERS=2\n", []),
        (f"GATEWAY_KEY_SECRET={SECRET}\n", [env]),
        ("GATEWAY_REDIS_URL=redis://:word@redis:6379/0\n", [env]),
    ):
        env.write_text(text)
        assert private_files(settings(), tmp_path / "data") == private


def test_a_certificate_is_told_by_its_end_and_its_name(tmp_path: Path) -> None:
    """It is made for one day."""
    cert, key = self_signed("api.example.com", "*.apps.example.com").write(tmp_path)
    now, files = time.time(), {"tls_cert": str(cert), "tls_key": str(key)}
    chosen = public(**files)
    assert certificate(chosen, now - 30 * DAY_S).state is State.GOOD
    assert certificate(chosen, now).state is State.WARNING
    assert certificate(chosen, now + 2 * DAY_S).state is State.BAD
    for host, state in (
        ("other.example.com", State.BAD),
        ("one.apps.example.com", State.GOOD),
        ("one.two.apps.example.com", State.BAD),
    ):
        another = settings(public_url=f"https://{host}", key_secret=SECRET, **files)
        assert certificate(another, now - 30 * DAY_S).state is state, host
    key.write_text("no key")
    assert certificate(chosen, now).state is State.BAD
    assert certificate(settings(), now).state is State.GOOD


def test_nobody_is_trusted_where_tls_ends_in_front() -> None:
    finding = proxies(public())
    assert finding.state is State.WARNING
    assert "GATEWAY_TRUSTED_PROXIES" in finding.detail
    assert proxies(public(trusted_proxies="10.0.0.0/24")).state is State.GOOD
    assert proxies(public(trusted_proxies="10.0.0.0/7")).state is State.WARNING
    assert proxies(settings()).state is State.GOOD


PEERS = "version: 1\ndecision_api: {trusted_peers: [%s]}\nroutes: []\n"


@pytest.mark.parametrize(
    ("peers", "state", "told"),
    [
        (None, State.WARNING, "names nobody"),
        ("127.0.0.0/8, '::1/128'", State.WARNING, "names this machine alone"),
        ("10.9.0.0/16, 12.0.0.0/7", State.WARNING, "12.0.0.0/7 is very many"),
        ("127.0.0.1/32, 10.9.0.0/16", State.GOOD, "10.9.0.0/16"),
    ],
)
def test_a_listener_of_grpc_whom_no_proxy_may_ask_is_told(
    peers: str | None, state: State, told: str
) -> None:
    world = snapshot("version: 1\nroutes: []\n" if peers is None else PEERS % peers)
    finding = ext_authz(settings(ext_authz_listen="0.0.0.0:9191"), world)
    assert finding.state is state
    assert told in finding.detail
    assert state is State.GOOD or "decision_api.trusted_peers" in finding.detail


def test_a_listener_of_grpc_on_this_machine_or_none_is_good() -> None:
    world = snapshot("version: 1\nroutes: []\n")
    for chosen in (settings(), settings(ext_authz_listen="127.0.0.1:9191")):
        assert ext_authz(chosen, world).state is State.GOOD


def test_a_public_url_that_has_no_address_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(host: str, port: None) -> list[object]:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    assert public_url(settings()).state is State.GOOD
    finding = public_url(public())
    assert finding.state is State.WARNING
    assert "api.example.com of GATEWAY_PUBLIC_URL has no address" in finding.detail


@contextmanager
def server(greeting: bytes) -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def greet() -> None:
            client, _ = listening.accept()
            with client:
                client.sendall(greeting)

        thread = threading.Thread(target=greet, daemon=True)
        thread.start()
        yield listening.getsockname()[1]
        thread.join()


@pytest.mark.parametrize(
    ("greeting", "state"), [(b"220 mail\r\n", State.GOOD), (b"HTTP/1.1 400\r\n", State.WARNING)]
)
def test_a_mail_server_is_asked_whether_it_is_one(greeting: bytes, state: State) -> None:
    with server(greeting) as port:
        chosen = settings(smtp_url=f"smtp://127.0.0.1:{port}", mail_from="a@example.com")
        assert mail(chosen).state is state


def test_mail_that_goes_nowhere_is_told() -> None:
    away = settings(smtp_url=f"smtp://127.0.0.1:{free_port()}", mail_from="a@example.com")
    assert "Connection refused" in mail(away).detail
    assert mail(public()).state is State.WARNING
    assert mail(public(email_verification="off")).state is State.GOOD
    assert mail(settings()).state is State.GOOD


async def test_a_signing_key_that_nobody_rotates_is_told(database: Database) -> None:
    chosen, now = settings(key_rotation_s=str(10 * DAY_S)), 1_800_000_000
    assert "none yet" in (await signing_key(database, chosen, now)).detail
    async with database.transaction() as tx:
        await tx.run(
            "INSERT INTO signing_keys (kid, alg, state, public_jwk, created_at, activated_at)"
            " VALUES ('k', 'EdDSA', 'active', '{}', :at, :at)",
            at=now - 12 * DAY_S,
        )
    finding = await signing_key(database, chosen, now)
    assert finding.state is State.WARNING
    assert "GATEWAY_KEY_ROTATION_S" in finding.detail
    assert (await signing_key(database, settings(), now)).state is State.GOOD
    by_hand = settings(key_rotation_s="0")
    assert (await signing_key(database, by_hand, now)).state is State.GOOD
    assert (await signing_key(database, by_hand, now + 500 * DAY_S)).state is State.WARNING


async def test_more_workers_than_postgresql_takes_sessions_of_are_told(database: Database) -> None:
    finding = await sql_connections(database, 2)
    if database.dialect != "postgresql":
        assert finding is None
        return
    assert finding is not None
    assert finding.state is State.GOOD
    many = await sql_connections(database, 256)
    assert many is not None
    assert many.state is State.WARNING
