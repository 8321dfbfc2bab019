"""Where the texts of settings are: the environment, and one file of `NAME=value` lines."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dotenv.parser import parse_stream

PREFIX = "GATEWAY_"


@dataclass(frozen=True, slots=True)
class SettingProblem:
    """One wrong setting: `name` as the operator writes it."""

    name: str
    text: str

    def __str__(self) -> str:
        return f"{self.name}: {self.text}"


def given_settings(
    environ: Mapping[str, str] | None, env_file: Path | None
) -> tuple[dict[str, Any], list[SettingProblem]]:
    """The texts of the environment, which wins, and of the file.

    A setting that is there but empty counts as not given, as `GATEWAY_X=` in a unit file means.
    """
    given: dict[str, Any] = {}
    problems: list[SettingProblem] = []
    if env_file is not None and _is_there(env_file):
        given, problems = read_file(env_file)
    given |= {k: v for k, v in (os.environ if environ is None else environ).items() if v}
    return {name: value for name, value in given.items() if name.startswith(PREFIX)}, problems


def named_in(file: Path) -> list[str]:
    """The settings that a file gives a value; none where there is no file."""
    return list(read_file(file)[0]) if _is_there(file) else []


def read_file(file: Path) -> tuple[dict[str, Any], list[SettingProblem]]:
    """What a file of `NAME=value` lines gives, as it stands (`$` included), and its lines that
    are something else: dropped, they would be silent defaults."""
    given: dict[str, Any] = {}
    problems = []
    with file.open(encoding="utf-8") as stream:
        for line in parse_stream(stream):
            if line.error and PREFIX in line.original.string:
                problems.append(SettingProblem(f"{file}:{line.original.line}", "is no NAME=value"))
            elif not line.error and line.key and line.value:
                given[line.key] = line.value
    return given, problems


def _is_there(file: Path) -> bool:
    try:
        return file.is_file()
    except PermissionError:
        # The folder in which a service's user was told to work may be somebody else's.
        return False
