"""The listener's certificate is followed while it runs, mounted as Kubernetes mounts a secret."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cryptography import x509

from tests.certificates import Authority
from tests.contract.running import Running, started
from tests.e2e.processes import children, metric, ready, until, workers
from tests.e2e.test_starting import refused
from tests.ports import free_port

pytestmark = pytest.mark.slow

GET = b"GET /public/x HTTP/1.1\r\nHost: localhost\r\n\r\n"


@dataclass
class Mount:
    """`localhost.pem` and `.key` are links through `..data`, which is swapped as a whole."""

    folder: Path
    authority: Authority
    version: int = 0
    issued: list[int] = field(default_factory=list)

    def publish(self, *, key: bytes | None = None) -> None:
        """A new certificate takes the place of the old one; or one that does not fit its key."""
        self.version += 1
        held = self.folder / f"..{self.version}"
        held.mkdir()
        certificate, private = self.authority.issue("localhost", held)
        read = x509.load_pem_x509_certificate(Path(certificate).read_bytes())
        self.issued.append(read.serial_number)
        if key is not None:
            Path(private).write_bytes(key)
        link = self.folder / "..data_tmp"
        link.symlink_to(held.name)
        os.replace(link, self.folder / "..data")
        for name in ("localhost.pem", "localhost.key"):
            if not (self.folder / name).is_symlink():
                (self.folder / name).symlink_to(f"..data/{name}")


@dataclass
class Gate:
    running: Running
    port: int
    mount: Mount

    def connect(self, *, old: bool = False) -> ssl.SSLSocket:
        context = ssl.create_default_context(cafile=str(self.mount.authority.file))
        if old:
            context.maximum_version = ssl.TLSVersion.TLSv1_2
        return self.wrapped(context)

    def wrapped(
        self, context: ssl.SSLContext, session: ssl.SSLSession | None = None
    ) -> ssl.SSLSocket:
        plain = socket.create_connection(("127.0.0.1", self.port), timeout=10)
        return context.wrap_socket(plain, server_hostname="localhost", session=session)

    def shown(self) -> int:
        """The serial number of the certificate that a new connection is shown."""
        with self.connect() as one:
            return serial(one)

    def log(self) -> str:
        return self.running.log.read_text()


def serial(connection: ssl.SSLSocket) -> int:
    held = connection.getpeercert(binary_form=True)
    assert held is not None
    return x509.load_der_x509_certificate(held).serial_number


def answered(connection: ssl.SSLSocket) -> bool:
    connection.sendall(GET)
    head = b""
    while b"\r\n\r\n" not in head:
        piece = connection.recv(65_536)
        assert piece, "the connection was closed"
        head += piece
    return head.startswith(b"HTTP/1.1 200 ")


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gate]:
    folder = tmp_path_factory.mktemp("tls")
    mount = Mount(folder, Authority(folder))
    mount.publish()
    port = free_port()
    with started(
        folder / "g",
        "--workers",
        "2",
        GATEWAY_LISTEN=f"127.0.0.1:{port}",
        GATEWAY_PUBLIC_URL=f"https://localhost:{port}",
        GATEWAY_TLS_CERT=str(folder / "localhost.pem"),
        GATEWAY_TLS_KEY=str(folder / "localhost.key"),
        GATEWAY_HEADER_TIMEOUT_S="3",
    ) as running:
        yield Gate(running, port, mount)


def everybody_shows(gate: Gate, wanted: int) -> bool:
    """Which worker a connection meets is the kernel's choice: forty in a row meet both."""
    return all(gate.shown() == wanted for _ in range(40))


def test_a_new_certificate_is_shown_to_new_connections_and_the_old_ones_go_on(gate: Gate) -> None:
    first = gate.mount.issued[-1]
    kept = [gate.connect(old=old) for old in (False, True, False, True)]
    try:
        assert {serial(one) for one in kept} == {first}
        assert all(answered(one) for one in kept)
        gate.mount.publish()
        until(lambda: everybody_shows(gate, gate.mount.issued[-1]), 40)
        assert all(answered(one) for one in kept)
        assert {serial(one) for one in kept} == {first}
        assert metric(gate.running, "authgate_certificate_stale") == [0, 0]
        ends = metric(gate.running, "authgate_certificate_expiration_timestamp_seconds")
        assert all(0 < at - time.time() < 2 * 86_400 for at in ends)
        # Two workers and the master, from whom a worker that is replaced has what it shows.
        until(lambda: gate.log().count("certificate-loaded") == 3, 40)
        # Who resumes a session of before is let in: by the session or by a new handshake.
        for one in kept[:2]:
            with gate.wrapped(one.context, one.session) as again:
                assert answered(again)
    finally:
        for one in kept:
            one.close()


def test_a_pair_that_does_not_fit_leaves_the_old_one_and_says_so(gate: Gate) -> None:
    before = gate.mount.issued[-1]
    gate.mount.publish(key=(gate.mount.folder / "localhost.key").read_bytes())
    until(lambda: gate.log().count("certificate-rejected") == 3, 40)
    assert "is not the key of the certificate" in gate.log()
    assert everybody_shows(gate, before)
    assert metric(gate.running, "authgate_certificate_stale") == [1, 1]
    # A worker that begins while the files are broken has what its master has.
    worker = ready(gate.running)["workers"][0]["worker"]
    assert worker in children(gate.running.process.pid)
    os.kill(worker, signal.SIGKILL)
    until(lambda: worker not in workers(gate.running), 40)
    until(lambda: len(workers(gate.running)) == 2, 40)
    assert everybody_shows(gate, before)
    gate.mount.publish()
    until(lambda: everybody_shows(gate, gate.mount.issued[-1]), 40)
    until(lambda: metric(gate.running, "authgate_certificate_stale") == [0, 0], 40)


def test_who_never_ends_a_handshake_is_cut(gate: Gate) -> None:
    with socket.create_connection(("127.0.0.1", gate.port), timeout=60) as silent:
        assert silent.recv(1) == b""


def test_nothing_but_tls_1_2_and_1_3_is_spoken(gate: Gate) -> None:
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context = ssl.create_default_context(cafile=str(gate.mount.authority.file))
        context.minimum_version = context.maximum_version = version
        with gate.wrapped(context) as one:
            assert one.version() == version.name.replace("v1_", "v1.")
            assert answered(one)


def test_a_pair_that_does_not_fit_starts_nothing(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate, _ = authority.issue("localhost")
    _, key = authority.issue("other")
    done = refused(
        tmp_path / "g",
        GATEWAY_PUBLIC_URL="https://localhost:8443",
        GATEWAY_TLS_CERT=certificate,
        GATEWAY_TLS_KEY=key,
        GATEWAY_KEY_SECRET=os.urandom(32).hex(),
    )
    assert done.returncode == 2
    assert "is not the key of the certificate" in done.stderr
    assert "Traceback" not in done.stderr
