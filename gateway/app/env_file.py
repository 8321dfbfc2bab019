"""Where the texts of settings are: the environment, one file of `NAME=value` lines, and a file
for each secret."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PREFIX = "GATEWAY_"
SECRETS = frozenset(
    PREFIX + name
    for name in ("DATABASE_URL", "REDIS_URL", "KEY_SECRET", "PASSWORD_PEPPER", "SMTP_URL")
)
"""Each may be in a file that NAME_FILE names: Docker, Compose and Kubernetes hand them over so,
and a variable is shown by `docker inspect` and inherited by every child."""
_FILE = "_FILE"
_LONGEST_SECRET_BYTES = 8192


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
    """The texts of the environment, which wins, and of the file, and of the files that they name.

    A setting that is there but empty counts as not given, as `GATEWAY_X=` in a unit file means.
    """
    given: dict[str, Any] = {}
    problems: list[SettingProblem] = []
    if env_file is not None and _is_there(env_file):
        given, problems = read_file(env_file)
    given |= {k: v for k, v in (os.environ if environ is None else environ).items() if v}
    given = {name: value for name, value in given.items() if name.startswith(PREFIX)}
    return given, problems + _read_secrets(given)


def named_in(file: Path) -> list[str]:
    """The settings that a file gives a value; none where there is no file."""
    return list(read_file(file)[0]) if _is_there(file) else []


def read_file(file: Path) -> tuple[dict[str, Any], list[SettingProblem]]:
    """What a file of `NAME=value` lines gives, as it stands (`$` included), and its lines that
    are something else: dropped, they would be silent defaults."""
    given: dict[str, Any] = {}
    problems = []
    # Here: where there is no such file, this is the slowest part of reading settings.
    from dotenv.parser import parse_stream

    with file.open(encoding="utf-8") as stream:
        for line in parse_stream(stream):
            if line.error and PREFIX in line.original.string:
                problems.append(SettingProblem(f"{file}:{line.original.line}", "is no NAME=value"))
            elif not line.error and line.key and line.value:
                given[line.key] = line.value
    return given, problems


def _read_secrets(given: dict[str, Any]) -> list[SettingProblem]:
    """Puts the text of each file in the place of its name."""
    problems = []
    for name in sorted(SECRETS):
        path = given.pop(name + _FILE, None)
        if path is None:
            continue
        try:
            if name in given:
                raise ValueError(f"{name} is given too: only one of them can count")
            given[name] = _secret_in(Path(path))
        except ValueError as wrong:
            problems.append(SettingProblem(name + _FILE, str(wrong)))
        except OSError as error:
            problems.append(SettingProblem(name + _FILE, f"{path}: {error.strerror}"))
    return problems


def _secret_in(path: Path) -> str:
    """Without the end of a line behind it.  OSError; ValueError."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise ValueError(f"{path} is not a file")
    with path.open("rb") as file:
        content = file.read(_LONGEST_SECRET_BYTES + 1)
    if len(content) > _LONGEST_SECRET_BYTES:
        raise ValueError(f"{path} has more than {_LONGEST_SECRET_BYTES} bytes")
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not UTF-8") from None
    text = text.removesuffix("\n").removesuffix("\r")
    if not text:
        raise ValueError(f"{path} is empty")
    return text


def _is_there(file: Path) -> bool:
    try:
        return file.is_file()
    except PermissionError:
        # The folder in which a service's user was told to work may be somebody else's.
        return False
