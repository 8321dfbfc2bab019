"""Commands of the gateway, each a process of its own, without the second that it takes to import.

A keeper (this file, run as a program; one for each process of pytest) has imported every command,
and becomes the command that is asked for in a fork of itself.  Such a process differs from one
that was executed by nothing but its parent and its name, and in quick tests by what a password
costs and how long other workers are waited for; tests/test_forked.py holds that both say the same.
tests/test_layers.py holds that modules of the gateway import no circles: so none needs that another
was imported before.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Any

GATEWAY = Path(sys.executable).with_name("gateway")
gateways = False
"""Whether `serve` forks as well, and is quick to hash and patient with others; `make test` says so."""

_LONGEST = 1 << 17
"""Bytes of a message: the words and the environment."""


def run_command(
    words: Sequence[str],
    *,
    folder: Path,
    environment: Mapping[str, str],
    stdin: str | None = None,
    timeout_s: float = 180,
) -> subprocess.CompletedProcess[str]:
    """As `subprocess.run` of `gateway` with these words, its output captured."""
    if measured():
        return subprocess.run(
            [str(GATEWAY), *words],
            cwd=folder,
            env=environment,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
    with (
        tempfile.TemporaryFile("w+") as given,
        tempfile.TemporaryFile("w+") as out,
        tempfile.TemporaryFile("w+") as err,
    ):
        given.write(stdin or "")
        given.seek(0)
        process = start(words, folder, environment, (given, out, err))
        try:
            code = process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess([str(GATEWAY), *words], code, out.read(), err.read())


@dataclass
class Process:
    """What tests ask of a `subprocess.Popen`."""

    args: list[str]
    pid: int
    _answer: socket.socket
    returncode: int | None = None

    def poll(self) -> int | None:
        with suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float) -> int:
        if self.returncode is None:
            if not select.select([self._answer], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(str(GATEWAY), timeout)
            self.returncode = int(self._answer.recv(32))
            self._answer.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def start(
    words: Sequence[str],
    folder: Path,
    environment: Mapping[str, str],
    files: tuple[IO[Any], IO[Any], IO[Any]],
) -> Process:
    """`gateway` with these words, and these as its standard input, output and error."""
    answer, theirs = socket.socketpair()
    job = {
        "words": list(words),
        "folder": str(folder),
        "environment": dict(environment),
        "quick": gateways,
    }
    with theirs:
        descriptors = [*(file.fileno() for file in files), theirs.fileno()]
        socket.send_fds(_KEEPER.control(), [json.dumps(job).encode()], descriptors)
    return Process([str(GATEWAY), *words], int.from_bytes(answer.recv(4)), answer)


def serve(
    folder: Path,
    environment: Mapping[str, str],
    output: tuple[IO[Any], IO[Any]],
    *,
    words: Sequence[str] = (),
    within: Sequence[str] = (),
    program: str = str(GATEWAY),
) -> subprocess.Popen[bytes] | Process:
    """`gateway serve` with these words, forked or executed; `output` is where both outputs go.
    `program` is this release's command, or another's."""
    with Path(os.devnull).open("rb") as nothing:
        if gateways and not within and program == str(GATEWAY):
            return start(["serve", *words], folder, environment, (nothing, *output))
        return subprocess.Popen(
            [*within, program, "serve", *words],
            cwd=folder,
            env=environment,
            stdin=nothing,
            stdout=output[0],
            stderr=output[1],
        )


def measured() -> bool:
    """`make coverage` counts processes that were executed."""
    return any(name.startswith("COVERAGE") for name in os.environ)


@dataclass
class _Keeper:
    process: subprocess.Popen[bytes] | None = None
    ours: socket.socket | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)

    def control(self) -> socket.socket:
        with self.lock:
            if self.ours is None:
                self.ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                self.ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * _LONGEST)
                with theirs:
                    self.process = subprocess.Popen(
                        [sys.executable, "-P", __file__, str(theirs.fileno())],
                        pass_fds=[theirs.fileno()],
                        stdin=subprocess.DEVNULL,
                        stdout=subprocess.DEVNULL,
                    )
                atexit.register(self.end)
            return self.ours

    def end(self) -> None:
        if self.ours is not None and self.process is not None:
            self.ours.close()
            self.process.wait()


_KEEPER = _Keeper()


@dataclass(frozen=True)
class _Job:
    words: list[str]
    folder: str
    environment: dict[str, str]
    quick: bool
    descriptors: list[int]


def _next_job(control: socket.socket) -> _Job | None:
    """Returns in each fork with what it has to do, and in the keeper, at the end, with None."""
    running: dict[int, tuple[int, socket.socket]] = {}
    poll = select.poll()
    poll.register(control, select.POLLIN)
    while True:
        for ready, _ in poll.poll():
            if ready in running:
                pid, answer = running.pop(ready)
                poll.unregister(ready)
                os.close(ready)
                code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                with suppress(OSError):
                    answer.send(str(code).encode())
                answer.close()
                continue
            message, descriptors, _, _ = socket.recv_fds(control, _LONGEST, 4)
            if not message:
                return None
            *descriptors, answering = descriptors
            answer = socket.socket(fileno=answering)
            pid = os.fork()
            if pid == 0:
                for other in (control, answer, *(there for _, there in running.values())):
                    other.detach()  # `_become` closes what they stand for
                return _Job(**json.loads(message), descriptors=descriptors)
            answer.send(pid.to_bytes(4))
            for descriptor in descriptors:
                os.close(descriptor)
            watched = os.pidfd_open(pid)
            running[watched] = (pid, answer)
            poll.register(watched, select.POLLIN)


def _become(job: _Job) -> None:
    for number, descriptor in enumerate(job.descriptors):
        os.dup2(descriptor, number)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    os.chdir(job.folder)
    os.environ.clear()
    os.environ.update(job.environment)
    sys.argv = [str(GATEWAY), *job.words]
    if job.quick:
        make_hashes_quick()
        make_patient()


def make_hashes_quick() -> None:
    """In this process: where the settings ask for the least that they allow, 2^10 rounds and 60 ms,
    passwords are hashed at bcrypt's least, 1 ms."""
    from gateway.app import auth
    from gateway.cli import users
    from gateway.identity.accounts.passwords import LEAST_ROUNDS, calibrated_rounds

    async def rounds(database: Any, configured: int | None) -> int:
        return 4 if configured == LEAST_ROUNDS else await calibrated_rounds(database, configured)

    for module in (auth, users):
        module.__dict__["calibrated_rounds"] = rounds


def make_patient() -> None:
    """In this process: what is revoked is waited for at other workers for 20 s before 503, not for
    1.5, and a command that the console tries with a nice of its own for 240 s, not for 30: where
    the machine is busy they are late, and the tests are about what they then say."""
    from gateway.app import components, console
    from gateway.edge.console.trials import Trials
    from gateway.revocation.replica import ReplicaOptions

    components.__dict__["ReplicaOptions"] = partial(ReplicaOptions, confirm_timeout_s=20.0)
    console.__dict__["Trials"] = partial(Trials, time_s=240.0)


if __name__ == "__main__":
    from gateway.cli import COMMANDS, main

    for module in dict.fromkeys(place.module for place in COMMANDS.values()):
        importlib.import_module(f"gateway.cli.{module}")
    gc.collect()
    gc.freeze()
    asked = _next_job(socket.socket(fileno=int(sys.argv[1])))
    if asked is not None:
        _become(asked)
        sys.exit(main())
