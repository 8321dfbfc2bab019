"""A name for a process by which others on the same machine can tell that it is gone."""

from __future__ import annotations

import os
import secrets
from functools import cache
from pathlib import Path

_STATE, _START_TIME = 0, 19  # of /proc/PID/stat, behind the command's name (proc(5))


def lease_name() -> str:
    """Where this process runs, which one it is, and a random part: never given twice."""
    return ".".join(
        (_house(), str(os.getpid()), _stat(os.getpid())[_START_TIME], secrets.token_hex(4))
    )


def is_surely_dead(name: str) -> bool:
    """Whether the process of that name has ended.  False where that cannot be told: another
    machine, another container."""
    house, pid, started, _ = [*name.rsplit(".", 3), "", "", ""][:4]
    if house != _house() or not pid.isdigit():
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


@cache
def _house() -> str:
    """This start of this machine, and the process numbers that this process sees."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    return f"{boot}.{os.stat('/proc/self/ns/pid').st_ino}"


def _stat(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
