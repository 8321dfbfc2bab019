"""A lease's name tells whether its process is gone, where that can be told."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.revocation.process_id import LocalProcesses, lease_name


@pytest.fixture
def processes() -> LocalProcesses:
    return LocalProcesses()


def test_a_process_that_lives_is_not_dead(processes: LocalProcesses) -> None:
    assert not processes.is_surely_dead(lease_name())
    assert lease_name() != lease_name()


def test_a_process_that_ended_is_dead(processes: LocalProcesses) -> None:
    program = "from gateway.revocation.process_id import lease_name; print(lease_name())"
    name = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout.strip()
    assert processes.is_surely_dead(name)


def test_a_killed_process_is_dead_before_its_parent_has_noticed(processes: LocalProcesses) -> None:
    program = (
        "import signal\nfrom gateway.revocation.process_id import lease_name\n"
        "print(lease_name(), flush=True)\nsignal.pause()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout
        name = child.stdout.readline().strip()
        assert not processes.is_surely_dead(name)
        os.kill(child.pid, 9)
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert processes.is_surely_dead(name)


def test_another_process_of_the_same_number_is_not_the_one_that_was_meant(
    processes: LocalProcesses,
) -> None:
    machine, pid, _, rest = lease_name().rsplit(".", 3)
    assert processes.is_surely_dead(f"{machine}.{pid}.1.{rest}")


def test_of_another_machine_nothing_can_be_told(processes: LocalProcesses) -> None:
    _, pid, started, rest = lease_name().rsplit(".", 3)
    assert not processes.is_surely_dead(f"elsewhere.{pid}.{started}.{rest}")
    assert not processes.is_surely_dead("")
    assert not processes.is_surely_dead("a.b.c.d")


def test_without_a_descriptor_left_to_look_with_nobody_is_taken_for_dead() -> None:
    program = (
        "import resource as r\nfrom gateway.revocation.process_id import LocalProcesses, lease_name\n"
        "name, processes = lease_name(), LocalProcesses()\n"
        "r.setrlimit(r.RLIMIT_NOFILE, (0, r.getrlimit(r.RLIMIT_NOFILE)[1]))\n"
        "print(processes.is_surely_dead(name))"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert result.stdout == "False\n", result.stderr


def test_a_name_says_where_the_process_runs_and_which_one_it_is() -> None:
    boot, namespace, pid, started, drawn = lease_name().split(".")
    assert boot == Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    assert namespace == str(os.stat("/proc/self/ns/pid").st_ino)
    assert pid == str(os.getpid())
    # Behind the command's name, which may hold anything.
    assert started == Path("/proc/self/stat").read_text("utf-8").rpartition(") ")[2].split()[19]
    assert len(drawn) == 8


def test_of_a_number_that_is_none_nothing_can_be_told(processes: LocalProcesses) -> None:
    machine, _, started, rest = lease_name().rsplit(".", 3)
    assert not processes.is_surely_dead(f"{machine}.x.{started}.{rest}")


def test_a_process_of_another_user_is_not_taken_for_dead(
    processes: LocalProcesses, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, int]] = []

    def refused(pid: int, signal: int) -> None:
        asked.append((pid, signal))
        raise PermissionError

    monkeypatch.setattr(os, "kill", refused)
    assert not processes.is_surely_dead(lease_name())
    assert asked == [(os.getpid(), 0)]


def test_a_command_s_name_is_not_taken_for_what_stands_behind_it(
    processes: LocalProcesses,
) -> None:
    """It may hold brackets, spaces, and bytes that are no text."""
    name, file = lease_name(), Path("/proc/self/comm")
    command = file.read_bytes()
    file.write_bytes(b"\xff) Z 1 (")
    try:
        assert lease_name().rsplit(".", 1)[0] == name.rsplit(".", 1)[0]
        assert not processes.is_surely_dead(name)
    finally:
        file.write_bytes(command)


def test_to_look_at_a_process_interns_no_name(
    processes: LocalProcesses, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker looks twice a second, and Python's table of interned strings grows with each."""
    name = lease_name()
    monkeypatch.setattr("gateway.revocation.process_id.Path", None)
    assert not processes.is_surely_dead(name)
