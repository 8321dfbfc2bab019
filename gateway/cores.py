"""How many cores this process may keep busy.

Law: a container that may use two of a node's 64 cores sees all 64.  Were it to hash passwords in
32 threads, they would use up its time within a few milliseconds of each period, and the kernel
would stop the whole process for the rest: calls, leases and probes too.  So the limit of the
control group counts, as cpu.max says it (Linux, Documentation/admin-guide/cgroup-v2.rst; in
version 1 the quota of CFS).
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
OWN = Path("/proc/self/cgroup")


def usable_cores() -> int:
    """What the scheduler lets it run on, and no more than the time that it is given; at least 1."""
    return limited(len(os.sched_getaffinity(0)), CGROUPS, OWN)


def limited(cores: int, cgroups: Path, own: Path) -> int:
    """As many of these as the control groups that `own` names give.

    Half a core counts as one.  What cannot be read limits nothing.
    """
    return max(1, math.ceil(min([cores, *_quotas(cgroups, own)])))


def _quotas(cgroups: Path, own: Path) -> Iterator[float]:
    """In cores: of its group, and of each group above that."""
    for line in _text(own).splitlines():
        _, _, controllers_and_path = line.partition(":")
        controllers, _, path = controllers_and_path.partition(":")
        if controllers and "cpu" not in controllers.split(","):
            continue
        root = cgroups / "cpu" if controllers else cgroups
        inner = root / path.lstrip("/")
        # A group outside of what is mounted here begins with `..`.
        groups = [inner, *inner.parents] if ".." not in inner.parts else [root]
        for group in groups:
            if group.is_relative_to(root):
                yield from _of_version_1(group) if controllers else _of_version_2(group)


def _of_version_2(group: Path) -> Iterator[float]:
    quota, _, period = _text(group / "cpu.max").strip().partition(" ")
    yield from _cores(quota, period)


def _of_version_1(group: Path) -> Iterator[float]:
    quota, period = (_text(group / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period"))
    yield from _cores(quota, period)


def _cores(quota: str, period: str) -> Iterator[float]:
    """Nothing where there is no limit: `max`, `-1`, or no such file."""
    if quota.isdecimal() and period.isdecimal() and int(quota) > 0 and int(period) > 0:
        yield int(quota) / int(period)


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return ""
