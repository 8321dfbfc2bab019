"""A command as process 1, which it is in a container."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers import wait_until


def handles_sigterm(pid: int) -> bool:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    [caught] = [line.split()[1] for line in lines if line.startswith("SigCgt:")]
    return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)


@pytest.mark.skipif(not shutil.which("unshare"), reason="apt-get install util-linux")
def test_a_command_that_is_process_1_ends_at_a_sigterm(tmp_path: Path) -> None:
    """`podman stop` while it works: without a handler it would go on until it is killed."""
    become = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    command = [
        *("unshare", *become, "--pid", "--fork", "--kill-child"),
        *(sys.executable, "-m", "gateway", "users", "create", "a@example.com", "--password-stdin"),
    ]
    reading, writing = os.pipe()
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen(command, stdin=reading, cwd=tmp_path, env=environment)
    os.close(reading)
    try:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        wait_until(lambda: bool(children.read_text()), 60, "the command's start")
        command_pid = int(children.read_text())
        wait_until(lambda: handles_sigterm(command_pid), 60, "the command's handler")
        os.kill(command_pid, signal.SIGTERM)
        assert process.wait(60) == 128 + signal.SIGTERM
    finally:
        process.kill()
        process.wait()
        os.close(writing)


IN_A_CALLBACK = """
import gateway.__main__, signal, weakref

class Lock: pass

gateway.__main__.end_at_sigterm()
lock = Lock()
kept = weakref.ref(lock, lambda _: signal.raise_signal(signal.SIGTERM))
del lock
signal.pause()
"""


def test_a_sigterm_during_a_callback_in_which_nothing_can_be_raised_ends_it_too() -> None:
    """The import of a module has some."""
    done = subprocess.run(
        [sys.executable, "-c", IN_A_CALLBACK], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (128 + signal.SIGTERM, "")


def test_it_does_so_before_it_has_imported_what_it_needs() -> None:
    """That takes the longer part of a second, and whoever restarts containers sends it then."""
    program = "import sys, gateway.__main__; print(*{'gateway.cli', 'pydantic'} & {*sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "\n"
