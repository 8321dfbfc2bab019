"""How many cores this process may keep busy: no more than its control group gives it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gateway.app.settings import load
from gateway.cores import limited, usable_cores
from gateway.identity.accounts.passwords import PasswordOptions


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """With 64 cores; the folders of control groups are below it."""
    (tmp_path / "own").write_text("0::/\n")
    return tmp_path


def cores_of(machine: Path) -> int:
    return limited(64, machine / "cgroup", machine / "own")


def limit(machine: Path, group: str, text: str) -> None:
    folder = machine / "cgroup" / group
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cpu.max").write_text(text)


def test_without_a_limit_it_is_what_the_scheduler_lets_it_run_on(machine: Path) -> None:
    assert cores_of(machine) == 64
    limit(machine, "", "max 100000\n")
    assert cores_of(machine) == 64


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("200000 100000\n", 2),
        ("150000 100000\n", 2),
        ("50000 100000\n", 1),
        ("1000 100000\n", 1),
        ("6400000 50000\n", 64),
    ],
)
def test_a_container_has_the_cores_of_its_limit(machine: Path, text: str, wanted: int) -> None:
    limit(machine, "", text)
    assert cores_of(machine) == wanted


def test_the_least_of_the_groups_above_counts(machine: Path) -> None:
    (machine / "own").write_text("0::/system.slice/authgate.service\n")
    limit(machine, "system.slice/authgate.service", "800000 100000\n")
    limit(machine, "system.slice", "400000 100000\n")
    limit(machine, "user.slice", "100000 100000\n")
    assert cores_of(machine) == 4


def test_control_groups_of_version_1_count_too(machine: Path) -> None:
    (machine / "own").write_text("4:memory:/\n3:cpu,cpuacct:/pod\n2:cpuset:/\n0::/\n")
    folder = machine / "cgroup" / "cpu" / "pod"
    folder.mkdir(parents=True)
    (folder / "cpu.cfs_period_us").write_text("100000\n")
    (folder / "cpu.cfs_quota_us").write_text("-1\n")
    assert cores_of(machine) == 64
    (folder / "cpu.cfs_quota_us").write_text("300000\n")
    assert cores_of(machine) == 3


@pytest.mark.parametrize("text", ["", "max\n", "0 100000\n", "100000 0\n", "x y\n", "\xff"])
def test_what_cannot_be_read_limits_nothing(machine: Path, text: str) -> None:
    limit(machine, "", "")
    (machine / "cgroup" / "cpu.max").write_bytes(text.encode("latin-1"))
    assert cores_of(machine) == 64


def test_a_group_outside_of_what_is_mounted_is_not_looked_for(machine: Path) -> None:
    (machine / "own").write_text("0::/../other\n")
    limit(machine, "", "200000 100000\n")
    (machine / "other").mkdir()
    (machine / "other" / "cpu.max").write_text("100000 100000\n")
    assert cores_of(machine) == 2


def test_workers_and_hashing_threads_are_as_many_as_can_run() -> None:
    assert 1 <= usable_cores() <= len(os.sched_getaffinity(0))
    assert load({"GATEWAY_WORKERS": "auto"}, env_file=None).workers == usable_cores()
    assert PasswordOptions().threads == max(1, usable_cores() // 2)
