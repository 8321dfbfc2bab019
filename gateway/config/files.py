"""The files of a configuration: which there are, when they differ, and what is in them."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from gateway.config.compile import Sources
from gateway.model import ConfigProblem

DEFAULT_POLICIES = Path("policies")

Signature = tuple[tuple[str, int, int, int, int], ...]


@dataclass(frozen=True, slots=True)
class Files:
    """Where the configuration is written."""

    routes: Path
    policies: Path

    def listed(self) -> list[Path]:
        """Every `*.yaml` below the policy folder but the tests, in the order of their names;
        the folder may be missing.  Links are followed: a mounted ConfigMap is made of them."""
        return sorted(map(Path, self._listed()))

    def signature(self) -> Signature:
        """What differs when a file was written, replaced, added or taken away.

        Asked again and again, and so without a `Path`: each interns the names it is made of, and
        Python's table of those that are interned grows with what comes and goes, too.
        """
        stamps = []
        for path in (str(self.routes), *sorted(self._listed())):
            try:
                seen = os.stat(path)
                # `cp -p` puts mtime back; nobody puts back when it was last changed in any way.
                times = seen.st_mtime_ns, seen.st_ctime_ns
                stamps.append((path, seen.st_ino, *times, seen.st_size))
            except OSError:
                stamps.append((path, 0, 0, 0, -1))
        return tuple(stamps)

    def _listed(self) -> list[str]:
        paths = []
        for folder, below, names in os.walk(self.policies, followlinks=True):
            # `..2026_01_01` and `..data` of a ConfigMap hold the same files once more.
            below[:] = [
                name
                for name in below
                if not name.startswith(".")
                and name != "tests"
                and not _leads_back(os.path.join(folder, name), folder)
            ]
            paths += [
                os.path.join(folder, name)
                for name in names
                if name.endswith(".yaml") and not name.startswith(".")
            ]
        return paths


def read_sources(
    routes: Path, policies: Path, *, may_lack: Path = DEFAULT_POLICIES
) -> Sources | list[ConfigProblem]:
    """The texts of all files, or what kept them from being read.

    A folder of policies that was named must be there; `may_lack`, the one that nobody named, may
    be left out where no route needs one.
    """
    problems: list[ConfigProblem] = []
    if policies != may_lack and not policies.is_dir():
        problem = "is no folder" if policies.exists() else "there is no such folder"
        problems.append(ConfigProblem(str(policies), 1, 1, problem))

    def text(path: Path) -> tuple[str, str]:
        try:
            # To open a pipe waits for its writer, which may never come.
            if stat.S_ISREG(path.stat().st_mode):
                return (str(path), path.read_text("utf-8"))
            problems.append(ConfigProblem(str(path), 1, 1, "is no file"))
        except UnicodeDecodeError as error:
            line = error.object[: error.start].count(b"\n") + 1
            problems.append(ConfigProblem(str(path), line, 1, "is not UTF-8"))
        except OSError as error:
            problems.append(ConfigProblem(str(path), 1, 1, f"cannot be read: {error.strerror}"))
        return (str(path), "")

    listed = Files(routes, policies).listed()
    problems += [_misnamed(path) for path in listed if not _is_text(path.relative_to(policies))]
    sources = Sources(
        routes=text(routes),
        policies=tuple(text(path) for path in listed),
        policies_root=str(policies),
    )
    return problems or sources


def _is_text(path: Path) -> bool:
    """Whether a name is what it can be shown and told apart by: UTF-8."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def _misnamed(path: Path) -> ConfigProblem:
    shown = os.fsencode(path).decode("utf-8", "backslashreplace")
    return ConfigProblem(shown, 1, 1, "the name of this file is not UTF-8: give it another")


def _leads_back(path: str, folder: str) -> bool:
    """Whether a link leads to a folder above itself: to follow it would never end."""
    if not os.path.islink(path):
        return False
    target, here = os.path.realpath(path), os.path.realpath(folder)
    return os.path.commonpath((target, here)) == target
