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

from gateway.control_groups import CGROUPS, OWN, groups_of, text_of


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
    for group, is_first in groups_of("cpu", cgroups, own):
        yield from _of_version_1(group) if is_first else _of_version_2(group)


def _of_version_2(group: Path) -> Iterator[float]:
    quota, _, period = text_of(group / "cpu.max").strip().partition(" ")
    yield from _cores(quota, period)


def _of_version_1(group: Path) -> Iterator[float]:
    quota, period = (text_of(group / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period"))
    yield from _cores(quota, period)


def _cores(quota: str, period: str) -> Iterator[float]:
    """Nothing where there is no limit: `max`, `-1`, or no such file."""
    if quota.isdecimal() and period.isdecimal() and int(quota) > 0 and int(period) > 0:
        yield int(quota) / int(period)
