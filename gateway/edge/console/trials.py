"""A configuration tried before it is saved anywhere: validated, compared with the one of the files,
and put through its tests, by the very commands of the shell.

Law: what is tried lies in a folder of its own (0700) that goes when it was tried; the operator's
files are read, and nothing writes them.  A command runs in a process of its own, without a secret
of the settings, with bounds on its time, memory and output, beside the calls and after them; of all
workers one tries at a time, and few wait.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import re
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gateway.edge.console.patches import patch_of

TIME_S = 30.0
"""Of one command, with its start."""
MEMORY_BYTES_MAX = 2 << 30
"""Or half of what the container has: where that is used up, the kernel ends all that runs there."""
OUTPUT_BYTES = 2_000_000
FILES_BYTES = 8_000_000
"""Of all files together: what is more is tried in the shell."""
WAITING_MAX = 2
"""Trials that are run or wait for their turn."""
_NICE = 10
_NEW_FILE = re.compile(r"policies/(?:[a-z0-9_-]{1,40}/){0,3}[a-z0-9_-]{1,60}\.yaml")
_PASSED = re.compile(r"PATH|HOME|LANG|LC_\w+|TMPDIR|LD_LIBRARY_PATH|VIRTUAL_ENV|PYTHON\w+")
"""Of the environment: whatever else may be in it is no affair of a command."""
_LEFT_S = 600.0
"""After which a folder is one of a worker that was killed."""
_TOLD_SETTINGS = ("PUBLIC_URL", "AUTH_PREFIX", "ISSUER", "AUDIENCE", "REGISTRATION")
COMMAND = (sys.executable, "-P", "-m", "gateway")
"""`-P`: nothing is imported from the folder that is tried."""
ROUTES, POLICIES = "routes.yaml", "policies"


class TooManyTrials(Exception):
    """So many are tried already."""


class TooLarge(Exception):
    """The files are more than is tried here."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What came of one.  A part that was not come to is None."""

    patch: str
    """What was changed, as `patch -p1` and `git apply` take it."""
    problems: Sequence[Mapping[str, Any]] = ()
    notices: Sequence[Mapping[str, Any]] = ()
    changes: Sequence[Mapping[str, Any]] | None = None
    widened: bool = False
    tests: Mapping[str, Any] | None = None
    failures: Sequence[str] = field(default=())
    """Of the commands themselves: one that took too long, or said something else."""


class Trials:
    def __init__(
        self,
        routes: Path,
        policies: Path,
        folder: Path,
        settings: Mapping[str, str],
        *,
        command: Sequence[str] = COMMAND,
        time_s: float = TIME_S,
        memory_limit: int | None = None,
    ) -> None:
        """`folder` is the data folder; `settings` those by which a configuration is judged, by
        the names of _TOLD_SETTINGS; `memory_limit` in bytes, of all that runs here."""
        self._gateway = tuple(command)
        self._time_s = time_s
        self._memory_bytes = min(MEMORY_BYTES_MAX, (memory_limit or 2 * MEMORY_BYTES_MAX) // 2)
        self._routes = routes
        self._policies = policies
        self._folder = folder
        told = {f"GATEWAY_{name}": settings[name] for name in _TOLD_SETTINGS if name in settings}
        inherited = {k: v for k, v in os.environ.items() if _PASSED.fullmatch(k)}
        self._environment = {**inherited, **told}
        self._turn = asyncio.Semaphore(1)
        self._waiting = 0

    async def files(self) -> dict[str, str]:
        """The operator's files by their names, `routes.yaml` first.  Raises TooLarge, OSError,
        UnicodeDecodeError."""
        return await asyncio.to_thread(self._read)

    async def patch(self, edited: Mapping[str, str]) -> str:
        """What these texts change in the files.  Raises ValueError for a name that is none, and
        what `files` raises."""
        before = await self.files()
        return await asyncio.to_thread(patch_of, before, _edited(before, edited))

    async def run(self, edited: Mapping[str, str]) -> Trial:
        """Tries the files with these texts in the place of theirs; ValueError for a name that is
        none.  Raises TooManyTrials, and what `files` raises."""
        before = await self.files()
        after = _edited(before, edited)
        if self._waiting >= WAITING_MAX:
            raise TooManyTrials
        self._waiting += 1
        try:
            async with self._turn:
                with self._only_one():
                    return await self._tried(before, after)
        finally:
            self._waiting -= 1

    @contextlib.contextmanager
    def _only_one(self) -> Iterator[None]:
        """Of all workers, as they share the machine; TooManyTrials while another tries."""
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        descriptor = os.open(self._folder, flags)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise TooManyTrials from error
            yield
        finally:
            os.close(descriptor)

    async def _tried(self, before: Mapping[str, str], after: Mapping[str, str]) -> Trial:
        patch = await asyncio.to_thread(patch_of, before, after)
        await asyncio.to_thread(_remove_left, self._folder)
        place = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="trial-", dir=self._folder))
        try:
            await asyncio.to_thread(_write, place, {"old": before, "new": after})
            return await self._judged(place, patch, tested=any(map(_is_test, after)))
        finally:
            await asyncio.to_thread(shutil.rmtree, place, ignore_errors=True)

    async def _judged(self, place: Path, patch: str, *, tested: bool) -> Trial:
        new = place / "new"
        valid = await self._command(new, "validate", "--texts-only", "--json")
        if isinstance(valid, str):
            return Trial(patch, failures=(valid,))
        problems, notices = valid.get("problems", []), valid.get("notices", [])
        if problems:
            return Trial(patch, problems, notices)
        failures: list[str] = []
        changed = await self._command(new, "diff", str(place / "old"), ".", "--json")
        if isinstance(changed, str):
            failures.append(changed)
        tests: dict[str, Any] | str | None = None
        if tested:
            tests = await self._command(new, "test", "--json")
            if isinstance(tests, str):
                failures.append(tests)
        return Trial(
            patch,
            (),
            notices,
            None if isinstance(changed, str) else changed.get("changes", []),
            not isinstance(changed, str) and bool(changed.get("widened")),
            tests if isinstance(tests, dict) else None,
            failures,
        )

    async def _command(self, folder: Path, *words: str) -> dict[str, Any] | str:
        """What it printed as JSON; a sentence where it did not."""
        process = await asyncio.create_subprocess_exec(
            *self._gateway,
            *words,
            cwd=folder,
            env=self._environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            _bound(process.pid, self._memory_bytes)
            assert process.stdout is not None
            async with asyncio.timeout(self._time_s):
                output = await _read_at_most(process.stdout, OUTPUT_BYTES)
        except TimeoutError:
            return f"gateway {words[0]} took longer than {self._time_s:g} s: try it in the shell"
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        if output is None:
            return f"gateway {words[0]} says more than is shown here: try it in the shell"
        try:
            told = json.loads(output)
        except ValueError:
            return f"gateway {words[0]} failed (exit {process.returncode}): try it in the shell"
        return told if isinstance(told, dict) else f"gateway {words[0]} said something else"

    def _read(self) -> dict[str, str]:
        paths = {ROUTES: self._routes}
        if self._policies.is_dir():
            for path in sorted(self._policies.rglob("*.yaml")):
                below = path.relative_to(self._policies)
                if path.is_file() and not any(part.startswith(".") for part in below.parts):
                    paths[f"{POLICIES}/{below.as_posix()}"] = path
        if sum(path.stat().st_size for path in paths.values()) > FILES_BYTES:
            raise TooLarge
        return {name: path.read_text("utf-8") for name, path in paths.items()}


def _edited(before: Mapping[str, str], edited: Mapping[str, str]) -> dict[str, str]:
    unknown = [name for name in edited if name not in before and not _NEW_FILE.fullmatch(name)]
    if unknown:
        raise ValueError(f"{unknown[0]} is no file of a configuration: policies/NAME.yaml")
    after = {**before, **edited}
    if sum(map(len, after.values())) > FILES_BYTES:
        raise TooLarge
    return after


def _remove_left(folder: Path) -> None:
    """What a worker that was killed has left."""
    for path in folder.glob("trial-*"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > _LEFT_S:
                shutil.rmtree(path, ignore_errors=True)


def _is_test(name: str) -> bool:
    return name.startswith(f"{POLICIES}/tests/")


def _write(place: Path, folders: Mapping[str, Mapping[str, str]]) -> None:
    for folder, files in folders.items():
        (place / folder / POLICIES).mkdir(parents=True)
        for name, text in files.items():
            path = place / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")


def _bound(pid: int, memory_bytes: int) -> None:
    """Its memory and its time of the processor; and calls go before it."""
    with contextlib.suppress(OSError, ProcessLookupError):
        os.setpriority(os.PRIO_PROCESS, pid, _NICE)
        resource.prlimit(pid, resource.RLIMIT_AS, (memory_bytes, memory_bytes))
        resource.prlimit(pid, resource.RLIMIT_CPU, (int(TIME_S), int(TIME_S)))
        resource.prlimit(pid, resource.RLIMIT_CORE, (0, 0))


async def _read_at_most(stream: asyncio.StreamReader, most_bytes: int) -> bytes | None:
    """Until its end; None where there is more."""
    parts: list[bytes] = []
    size = 0
    while data := await stream.read(65_536):
        size += len(data)
        if size > most_bytes:
            return None
        parts.append(data)
    return b"".join(parts)
