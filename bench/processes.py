"""The processes of a rig: started on one CPU, ended with it, their CPU time read.

A bench that ends in any way leaves nobody behind: `run_bench` turns the signals that end a program
into an exit that stops what was started, and where that cannot run (kill -9) the kernel tells
the children.
"""

from __future__ import annotations

import ctypes
import http.client
import os
import select
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import NoReturn, Self

import typer

_TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
_PR_SET_PDEATHSIG = 1
_ENDING = (signal.SIGTERM, signal.SIGHUP)
"""As `timeout`, a terminal that closes and a CI job that is cancelled end a program."""


def run_bench(main: Callable[..., object]) -> None:
    """The command line of a bench: `main` unwinds when it is told to end, as after Ctrl-C."""
    for number in _ENDING:
        signal.signal(number, _leave)
    typer.run(main)


def _leave(number: int, frame: FrameType | None) -> NoReturn:
    del frame
    # Whoever sends it twice must not cut off the stopping of the servers.
    for each in _ENDING:
        signal.signal(each, signal.SIG_IGN)
    raise SystemExit(128 + number)


class Started:
    """One command and all that it starts, in a session of its own; on one CPU, or on all."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        cpu: int | None,
        log: Path,
        cwd: Path,
        env: Mapping[str, str] | None = None,
        group: Path | None = None,
    ) -> None:
        """`group`: the file of the members of a control group, which it enters before it begins."""
        everywhere = os.sched_getaffinity(0)
        cpus = everywhere if cpu is None else {cpu} & everywhere or everywhere

        def settle() -> None:
            os.sched_setaffinity(0, cpus)
            if group is not None:
                group.write_text("0")
            # A signal that the bench ignores while it stops would be ignored by it, too.
            for number in _ENDING:
                signal.signal(number, signal.SIG_DFL)
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)

        with log.open("ab") as sink:
            self._process = subprocess.Popen(
                command,
                cwd=cwd,
                env=os.environ | (env or {}),
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=settle,
            )
        self.log = log
        self._counted_in: list[Started] = []

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None

    def cpu_s(self) -> float:
        """Seconds of CPU that the command and its descendants have used, threads included."""
        pids = family(self._process.pid)
        return sum(map(_cpu_s, pids)) + sum(other.cpu_s() for other in self._counted_in)

    def kernel_s(self) -> float:
        """Those of them that the kernel used for them."""
        used_s = sum(_cpu_s(pid, kernel=True) for pid in family(self._process.pid))
        return used_s + sum(other.kernel_s() for other in self._counted_in)

    def count_in(self, other: Started) -> None:
        """What it asks on each request: the CPU time of both is that of one peer."""
        self._counted_in.append(other)

    def stop(self) -> None:
        if not self.ended:
            self._process.terminate()
            try:
                self._process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


def children(pid: int) -> list[int]:
    """What the main thread of a process has started and not yet buried."""
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def resident_bytes(pid: int) -> int:
    """Memory that is in RAM (VmRSS)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0


def family(root: int) -> list[int]:
    """A process and its descendants."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            fields = _stat(int(entry.name))
            if fields:
                children.setdefault(int(fields[1]), []).append(int(entry.name))
    found = [root]
    for pid in found:
        found.extend(children.get(pid, []))
    return found


class Processes:
    """Watches processes, of whoever they are children, until they end."""

    def __init__(self, pids: Sequence[int]) -> None:
        self.pids: list[int] = []
        self._descriptors: set[int] = set()
        for pid in pids:
            with suppress(ProcessLookupError):  # it has ended already
                self._descriptors.add(os.pidfd_open(pid))
                self.pids.append(pid)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for descriptor in self._descriptors:
            os.close(descriptor)

    def left_after(self, most_s: float) -> int:
        """How many have not ended within so many seconds."""
        deadline = time.monotonic() + most_s
        left = set(self._descriptors)
        while left and (left_s := deadline - time.monotonic()) > 0:
            # The kernel makes one readable once its process has ended.
            left.difference_update(select.select(left, [], [], left_s)[0])
        return len(left)


def _stat(pid: int) -> list[str]:
    """/proc/PID/stat from the state on; the command before it may hold any character."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return []
    return text.rpartition(")")[2].split()


def _cpu_s(pid: int, *, kernel: bool = False) -> float:
    fields = _stat(pid)
    if not fields:
        return 0.0
    ours, kernels = int(fields[11]), int(fields[12])
    return (kernels if kernel else ours + kernels) / _TICKS_A_SECOND


def await_ready(admin_port: int, within_s: float = 60.0) -> None:
    """Until a gateway says that every worker can decide and sign people in."""
    deadline = time.monotonic() + within_s
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", admin_port, timeout=5)
        try:
            connection.request("GET", "/readyz")
            if connection.getresponse().status == 200:
                return
        except (OSError, http.client.HTTPException):
            pass
        finally:
            connection.close()
        if time.monotonic() > deadline:
            raise RuntimeError(f"the gateway on {admin_port} did not become ready")
        time.sleep(0.1)


def listened_on(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def await_port(port: int, started: Started, within_s: float = 30.0) -> None:
    """Until something listens; raises with the end of the log when the process has ended."""
    deadline = time.monotonic() + within_s
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port), 1):
                return
        except OSError:
            if started.ended or time.monotonic() > deadline:
                tail = started.log.read_text(errors="replace")[-2000:]
                raise RuntimeError(f"nothing listens on {port}:\n{tail}") from None
            time.sleep(0.05)
