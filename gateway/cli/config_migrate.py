"""`gateway config migrate`: the words of another version, renamed in the operator's files."""

from __future__ import annotations

import difflib
import os
import stat
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.access.renames import RENAMES, Document, renamed_setting
from gateway.app.settings_migration import migrate_settings
from gateway.atomic_file import atomic_file
from gateway.cli.configuration_files import CONFIG, POLICIES, ConfigPath, PoliciesPath
from gateway.cli.environment import readable_settings_file, unread_service_file
from gateway.cli.output import AsJson, CliError, ExitCode, data, echo, warn
from gateway.config.files import Files
from gateway.config.migration import Migrated, Replacement, migrate_yaml

_CONTEXT_LINES = 2


def register(app: typer.Typer) -> None:
    config = typer.Typer(no_args_is_help=True, help="The files of the configuration.")
    config.callback()(_group)
    config.command("migrate")(migrate)
    app.add_typer(config, name="config")


def _group() -> None:
    """Only there so that a single command keeps its name."""


@dataclass(frozen=True, slots=True)
class MigratedFile:
    path: Path
    document: Document
    before: bytes
    migrated: Migrated

    def diff(self) -> Iterator[str]:
        """With a line or two around each edit; of settings, whose values may be secrets, the
        names alone."""
        before, after = self.before.decode("utf-8"), self.migrated.text
        if self.document is Document.SETTINGS:
            for one in self.migrated.replacements:
                yield f"{one.location}: -{one.rename.old}=…"
                yield f"{one.location}: +{one.rename.new}=…"
            return
        lines = difflib.unified_diff(
            before.split("\n"),
            after.split("\n"),
            str(self.path),
            str(self.path),
            lineterm="",
            n=_CONTEXT_LINES,
        )
        yield from (line.rstrip("\r") for line in lines)


def migrate(
    config: ConfigPath = CONFIG,
    policies: PoliciesPath = POLICIES,
    check: Annotated[
        bool,
        typer.Option("--check", help="Write nothing; exit 1 where something is to be renamed."),
    ] = False,
    diff: Annotated[
        bool, typer.Option("--diff", help="As --check, and show what would be written.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Write without asking.")] = False,
    as_json: AsJson = False,
) -> None:
    """Rename the words that this version calls differently: in routes.yaml, in the policies and in
    the settings file.

    Comments, order and layout stay.  What would be written is shown first; it is all or nothing.
    """
    found = _read(config, policies)
    changed = [one for one in found if one.migrated.replacements]
    problems = [str(problem) for one in found for problem in one.migrated.problems]
    problems += _of_the_environment()
    only_shown = check or diff
    if not as_json:
        _show(changed, as_diff=not check or diff)
    for problem in problems:
        warn(problem)
    if problems and not only_shown:
        _finish(changed, problems, as_json=as_json, written=False)
        raise CliError("nothing was written: the lines above are to be changed by hand first")
    if changed and not only_shown:
        _ask(len(changed), yes=yes)
        for one in changed:
            _check_folder(one.path.resolve().parent)
        for one in changed:
            _write(one)
    _finish(changed, problems, as_json=as_json, written=bool(changed) and not only_shown)
    if only_shown and (changed or problems):
        raise typer.Exit(ExitCode.NO)


def outdated_words(config: Path, policies: Path) -> list[Replacement]:
    """Those that `migrate` would write anew in what can be read."""
    try:
        return [
            replacement
            for one in _configuration(config, policies)
            for replacement in one.migrated.replacements
        ]
    except CliError:
        # Whoever asks has told of the file already.
        return []


def _read(config: Path, policies: Path) -> list[MigratedFile]:
    settings_file = readable_settings_file()
    if settings_file != Path(".env") and not settings_file.exists():
        raise CliError(f"--env-file: there is no {settings_file}", ExitCode.USAGE)
    unread = unread_service_file()
    if unread is not None:
        warn(f"{unread} cannot be read by you: run this as root too")
    if policies != POLICIES and not policies.is_dir():
        raise CliError(f"{policies}: there is no such folder", ExitCode.USAGE)
    if config == CONFIG and not config.exists():
        warn(f"note: there is no {config} here")
    found = _configuration(config, policies)
    if settings_file.exists():
        found.append(_migrated(settings_file, Document.SETTINGS))
    return found


def _configuration(config: Path, policies: Path) -> list[MigratedFile]:
    named = [(config, Document.ROUTES)] if config != CONFIG or config.exists() else []
    named += [
        (path, Document.POLICY)
        for path in Files(config, policies).listed()
        if path.relative_to(policies).parts[0] != "data"
    ]
    # A link leads to a file that is listed itself, or is alone.
    files = {path.resolve(): (path, document) for path, document in reversed(named)}
    return [_migrated(*files[key]) for key in reversed(files)]


def _migrated(path: Path, document: Document) -> MigratedFile:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise CliError(f"{path} is no file", ExitCode.USAGE)
        before = path.read_bytes()
        text = before.decode("utf-8")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise CliError(f"{path}:{line}:1: is not UTF-8") from error
    except OSError as error:
        raise CliError(f"{path}: {error.strerror}", ExitCode.USAGE) from error
    renames = [one for one in RENAMES if one.document is document]
    if document is Document.SETTINGS:
        return MigratedFile(path, document, before, migrate_settings(str(path), text, renames))
    return MigratedFile(path, document, before, migrate_yaml(str(path), text, renames))


def _of_the_environment() -> list[str]:
    """No file of ours says these."""
    return [
        f"{name} of the environment: renamed to `{renamed.new}` in {renamed.version}: rename it"
        " where it is set"
        for name in sorted(os.environ)
        if (renamed := renamed_setting(name)) is not None
    ]


def _show(changed: Sequence[MigratedFile], *, as_diff: bool) -> None:
    for one in changed:
        lines = one.diff() if as_diff else map(str, one.migrated.replacements)
        for line in lines:
            echo(line)


def _ask(count: int, *, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise CliError("no terminal to ask at: --yes writes without asking", ExitCode.USAGE)
    if not typer.confirm(f"Write {count} file{'s' if count != 1 else ''}?", err=True):
        raise CliError("nothing was written")


def _check_folder(folder: Path) -> None:
    """Before the first file is written: it is all or nothing."""
    if not os.access(folder, os.W_OK, effective_ids=True):
        raise CliError(f"{folder}: you may not write there; nothing was written", ExitCode.USAGE)


def _write(one: MigratedFile) -> None:
    """In the place of the file that was read, with its owner and its mode; a link stays one."""
    path = one.path.resolve()
    try:
        status = path.stat()
        with atomic_file(path) as file:
            file.write(one.migrated.text.encode())
            os.fchmod(file.fileno(), stat.S_IMODE(status.st_mode))
            if (status.st_uid, status.st_gid) != (os.geteuid(), os.getegid()):
                os.fchown(file.fileno(), status.st_uid, status.st_gid)
            if path.read_bytes() != one.before:
                raise CliError(f"{path} was edited meanwhile: it was left as it is; run this again")
    except OSError as error:
        told = f"{path}: cannot be written ({error.strerror}): run this as its owner, or as root"
        raise CliError(told, ExitCode.USAGE) from error


def _finish(
    changed: Sequence[MigratedFile], problems: Sequence[str], *, as_json: bool, written: bool
) -> None:
    if as_json:
        rows: list[dict[str, Any]] = [
            {
                "file": replacement.location.file,
                "line": replacement.location.line,
                "column": replacement.location.column,
                "old": replacement.rename.old,
                "new": replacement.rename.new,
                "version": replacement.rename.version,
            }
            for one in changed
            for replacement in one.migrated.replacements
        ]
        data({"renamed": rows, "problems": list(problems), "written": written})
        return
    count = sum(len(one.migrated.replacements) for one in changed)
    if not count and not problems:
        warn("nothing to rename: every word is this version's")
    elif written:
        warn(f"renamed {count} word{'s' if count != 1 else ''}; `gateway validate` checks the rest")
