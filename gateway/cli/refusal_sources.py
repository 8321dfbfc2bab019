"""Where a refusal is looked for: the workers that run, the decision log, the access log.

Law: what was looked through is told, whatever came of it: an id that is nowhere may be in the place
that was not looked at.
"""

from __future__ import annotations

import gzip
import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from gateway.app.data_dir import DataFolder
from gateway.app.settings import Settings
from gateway.cli.output import CliError, ExitCode
from gateway.review.told_answers import LoggedAnswer
from gateway.telemetry.access_record import fields_of_line, record_of_fields
from gateway.telemetry.refusal_socket import ask_workers


@dataclass(slots=True)
class Search:
    """A look for one id; `looked` says where, in sentences."""

    request_id: str
    looked: list[str] = field(default_factory=list)

    def in_installation(self, chosen: Settings) -> LoggedAnswer | None:
        """The workers know most; then the decision log; then the access log, if it is a file."""
        folder = DataFolder(chosen.data_dir)
        answered, told = ask_workers(folder.workers, self.request_id)
        if told is not None:
            return LoggedAnswer.of_workers(told)
        if answered:
            workers = "worker" if answered == 1 else "workers"
            self.looked.append(f"the last refusals of the running gateway ({answered} {workers})")
        else:
            self.looked.append(f"no gateway runs on the data folder {folder.path}")
        decisions = folder.path / "decisions"
        if decisions.is_dir():
            answer = self.in_path(decisions)
            if answer is not None:
                return answer
        else:
            self.looked.append(f"there is no decision log {decisions}")
        path = chosen.access_log_file
        if path is None:
            self.looked.append(
                "the access log goes to standard output: `journalctl -u authgate -o cat |"
                f" gateway why {self.request_id} --log -` looks through what was kept of it"
            )
            return None
        return next(filter(None, map(self.in_path, _with_older(path))), None)

    def in_path(self, path: Path) -> LoggedAnswer | None:
        """Of a file, a folder of the decision log, or `-`."""
        name = "standard input" if str(path) == "-" else str(path)
        answer = self._in_lines(name, _lines(path))
        if answer is None:
            self.looked.append(name)
        return answer

    def _in_lines(self, name: str, lines: Iterable[bytes]) -> LoggedAnswer | None:
        """What is decided is told in the decision log more fully than in the access log."""
        answer = None
        wanted = self.request_id.encode()
        for line in lines:
            if wanted not in line:
                continue
            read = _read(line.decode("utf-8", "replace"), self.request_id, name)
            if read is not None and read.whole and read.record is not None:
                return read
            answer = answer or read
        return answer


def _read(line: str, request_id: str, name: str) -> LoggedAnswer | None:
    fields = fields_of_line(line)
    if fields is not None and fields["http.request.id"] == request_id:
        return LoggedAnswer(name, record_of_fields(fields), fields, whole=False)
    start = line.find('{"at"')
    try:
        record = json.loads(line[start:]) if start >= 0 else None
    except ValueError:
        return None
    if isinstance(record, dict) and record.get("id") == request_id:
        return LoggedAnswer(name, record)
    return None


def _lines(path: Path) -> Iterator[bytes]:
    if str(path) == "-":
        yield from sys.stdin.buffer
        return
    files = sorted(path.glob("*.jsonl")) if path.is_dir() else [path]
    for file in files:
        try:
            with _opened(file) as held:
                yield from held
        except (OSError, EOFError) as error:
            why = getattr(error, "strerror", None) or str(error)
            raise CliError(f"{file}: {why}", ExitCode.USAGE) from error


def _opened(file: Path) -> IO[bytes]:
    return gzip.open(file) if file.suffix == ".gz" else file.open("rb")  # type: ignore[return-value]


def _with_older(path: Path) -> list[Path]:
    """The file and what `logrotate` has made of it, the newest first."""
    older = [one for one in path.parent.glob(f"{path.name}[.-]*") if one.is_file()]
    older.sort(key=lambda one: one.stat().st_mtime, reverse=True)
    return [*([path] if path.exists() else []), *older]
