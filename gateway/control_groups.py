"""What the control groups give this process (Linux, Documentation/admin-guide/cgroup-v2.rst).

Law: what cannot be read limits nothing.  The least of a group and of those above it counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
OWN = Path("/proc/self/cgroup")


def groups_of(controller: str, cgroups: Path, own: Path) -> Iterator[tuple[Path, bool]]:
    """The folders of its group and of each group above that; whether they are of version 1."""
    for line in text_of(own).splitlines():
        _, _, controllers_and_path = line.partition(":")
        controllers, _, path = controllers_and_path.partition(":")
        if controllers and controller not in controllers.split(","):
            continue
        root = cgroups / controller if controllers else cgroups
        inner = root / path.lstrip("/")
        # A group outside of what is mounted here begins with `..`.
        groups = [inner, *inner.parents] if ".." not in inner.parts else [root]
        for group in groups:
            if group.is_relative_to(root):
                yield group, bool(controllers)


def memory_bytes(cgroups: Path = CGROUPS, own: Path = OWN) -> int | None:
    """How much memory it may take, with all else in its group; None where nothing says."""
    limits = [
        int(text)
        for group, is_first in groups_of("memory", cgroups, own)
        if (text := text_of(group / _LIMIT[is_first]).strip()).isdecimal()
    ]
    return min(limits, default=None)


_LIMIT = {False: "memory.max", True: "memory.limit_in_bytes"}


def text_of(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return ""
