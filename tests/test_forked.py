"""A command that is forked says what one that is executed says."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.forked import GATEWAY, run_command

COMMANDS = (
    ("version", "--json"),
    ("nonsense",),
    ("users", "list"),
    ("validate",),
)


def _environment(tmp_path: Path) -> dict[str, str]:
    return {**os.environ, "GATEWAY_DATA_DIR": str(tmp_path / "data")}


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_both_say_the_same(tmp_path: Path, words: tuple[str, ...]) -> None:
    environment = _environment(tmp_path)
    executed = subprocess.run(
        [str(GATEWAY), *words],
        cwd=tmp_path,
        env=environment,
        input="x",
        capture_output=True,
        text=True,
        check=False,
    )
    forked = run_command(words, folder=tmp_path, environment=environment, stdin="x")
    assert vars(forked) == vars(executed)


def test_nothing_of_one_command_is_there_for_the_next(tmp_path: Path) -> None:
    environment = _environment(tmp_path)
    told = [
        run_command(("users", "list"), folder=tmp_path, environment=environment | more).stderr
        for more in ({}, {"GATEWAY_DATABASE_URL": "ftp://nowhere"}, {})
    ]
    assert told[0] == told[2] != told[1]


def test_a_command_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        run_command(("version",), folder=tmp_path, environment=os.environ, timeout_s=0)
