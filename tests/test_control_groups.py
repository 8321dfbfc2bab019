"""What the control groups give this process."""

from __future__ import annotations

from pathlib import Path

from gateway.control_groups import memory_bytes


def test_the_least_memory_of_the_groups_above_counts(tmp_path: Path) -> None:
    own, inner = tmp_path / "own", tmp_path / "cgroup" / "a" / "b"
    inner.mkdir(parents=True)
    own.write_text("0::/a/b\n")
    assert memory_bytes(tmp_path / "cgroup", own) is None
    (inner / "memory.max").write_text("max\n")
    assert memory_bytes(tmp_path / "cgroup", own) is None
    (inner.parent / "memory.max").write_text("805306368\n")
    assert memory_bytes(tmp_path / "cgroup", own) == 805_306_368
    (inner / "memory.max").write_text("1000000\n")
    assert memory_bytes(tmp_path / "cgroup", own) == 1_000_000


def test_the_first_version_of_control_groups_is_read_too(tmp_path: Path) -> None:
    own, group = tmp_path / "own", tmp_path / "cgroup" / "memory" / "a"
    group.mkdir(parents=True)
    own.write_text("4:memory:/a\n3:cpu,cpuacct:/a\n")
    (group / "memory.limit_in_bytes").write_text("805306368\n")
    assert memory_bytes(tmp_path / "cgroup", own) == 805_306_368
