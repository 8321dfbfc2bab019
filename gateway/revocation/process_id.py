"""Names a process so that others on the same machine can tell that it is gone."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

_STATE, _START_TIME = 0, 19  # of /proc/PID/stat, behind the command's name (proc(5))


def lease_name() -> str:
    """Where this process runs, which one it is, and a random part: no name is used twice."""
    started = _stat(os.getpid())[_START_TIME]
    return ".".join((_machine(), str(os.getpid()), started, secrets.token_hex(4)))


class LocalProcesses:
    """The processes that run beside this one.  The machine is read once, while there surely is a
    file descriptor to read it with."""

    def __init__(self) -> None:
        self._machine = _machine()

    def is_surely_dead(self, name: str) -> bool:
        """Whether the process of that name has ended.  False where that cannot be told: another
        machine, another container."""
        machine, pid, started, _ = [*name.rsplit(".", 3), "", "", ""][:4]
        if machine != self._machine or not pid.isdigit():
            return False
        try:
            os.kill(int(pid), 0)
            fields = _stat(int(pid))
        except ProcessLookupError:
            return True
        except OSError:
            # It is there, and another user's, or we have no descriptor left to look with.
            return False
        return fields[_START_TIME] != started or fields[_STATE] in "ZX"


def _machine() -> str:
    """This boot of this machine, and the process namespace that this process sees."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    return f"{boot}.{os.stat('/proc/self/ns/pid').st_ino}"


def _stat(pid: int) -> list[str]:
    # Without a `Path`, which interns what it is made of: a worker looks twice a second.
    with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
        return file.read().rpartition(")")[2].split()
