"""A share of the machine's CPU time for a process and all that it starts: a control group."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

PERIOD_US = 100_000
"""As the kernel has it where nobody says otherwise.  It hands out 5 ms at a time: of a period of
10 ms one CPU would have most, and each pause leaves a cold cache and a CPU that slept."""
LEFT_WITHIN_S = 5.0
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

    @property
    def members(self) -> Path:
        """The file to which a process writes 0 to be in it.  What it starts from then on is, too:
        who is taken in later may have started somebody meanwhile."""
        return self._folder / "cgroup.procs"

    def remove(self) -> None:
        """Once its processes have ended: who is told to may take a moment."""
        until = time.monotonic() + LEFT_WITHIN_S
        while self.members.read_text() and time.monotonic() < until:
            time.sleep(0.05)
        self._folder.rmdir()
