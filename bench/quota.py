"""A share of the machine's CPU time for a process and all that it starts: a control group."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from bench.processes import family

PERIOD_US = 10_000
_V1 = Path("/sys/fs/cgroup/cpu")
_V2 = Path("/sys/fs/cgroup")


def lacks() -> str:
    """What is missing to set one; empty where nothing is."""
    try:
        Quota("probe", 0.5).remove()
    except OSError as error:
        return f"run as root where control groups may be made ({error})"
    return ""


class Quota:
    def __init__(self, name: str, cores: float) -> None:
        is_v1 = (_V1 / "cpu.cfs_quota_us").exists() or (_V1 / "cgroup.procs").exists()
        self._folder = (_V1 if is_v1 else _V2) / f"bench-{os.getpid()}-{name}"
        quota_us = round(PERIOD_US * cores)
        if not is_v1:
            # May be there already; where it may not, the file below is missing.
            with suppress(OSError):
                (_V2 / "cgroup.subtree_control").write_text("+cpu")
        self._folder.mkdir(exist_ok=True)
        if is_v1:
            (self._folder / "cpu.cfs_period_us").write_text(str(PERIOD_US))
            (self._folder / "cpu.cfs_quota_us").write_text(str(quota_us))
        else:
            (self._folder / "cpu.max").write_text(f"{quota_us} {PERIOD_US}")

    def take(self, pid: int) -> None:
        """The process and what it has started so far; what it starts later follows."""
        for each in family(pid):
            with suppress(OSError):  # it has ended
                (self._folder / "cgroup.procs").write_text(str(each))

    def remove(self) -> None:
        """Once its processes have ended."""
        self._folder.rmdir()
