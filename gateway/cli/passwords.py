"""`gateway passwords import|status|check`: the passwords that are known to the world."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import typer

from gateway.app.data_dir import DataFolder
from gateway.cli.environment import settings
from gateway.cli.output import AsJson, CliError, ExitCode, data, echo, record, when
from gateway.identity.accounts.known_passwords import BadList, KnownList, ListFacts
from gateway.identity.accounts.password_import import BadImport, import_list


def register(app: typer.Typer) -> None:
    passwords = typer.Typer(
        no_args_is_help=True, help="Passwords that are known to the world, and are refused."
    )
    passwords.command("import")(bring_in)
    passwords.command("status")(status)
    passwords.command("check")(check)
    app.add_typer(passwords, name="passwords")


def bring_in(
    path: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="Lines of HASH or HASH:COUNT, in SHA-1 or NTLM, plain or .gz; `-` reads stdin.",
            show_default=False,
        ),
    ],
    as_json: AsJson = False,
) -> None:
    """Refuse the passwords of this list from now on, whenever somebody chooses one.

    The list of Have I Been Pwned is one.  It takes the place of the list that was imported before,
    and a running gateway takes it up by itself.  Each node of several has its own.
    """
    folder = DataFolder(settings().data_dir)
    folder.make()
    try:
        with ExitStack() as stack:
            source = _opened(path, stack)
            told = _progress(path, source, stack)
            facts = import_list(source, folder.known_passwords, int(time.time()), told)
    except BadImport as wrong:
        raise CliError(f"{path}: {wrong}") from wrong
    except OSError as error:
        raise CliError(f"{error.filename or path}: {error.strerror or error}") from error
    _tell(facts, as_json)


def status(as_json: AsJson = False) -> None:
    """Tell which list is in place, and how many good passwords it refuses by mistake."""
    found = _list()
    _tell(found.facts, as_json)


def check(as_json: AsJson = False) -> None:
    """Tell whether the password on standard input is in the list; exit 1 where it is."""
    found = _list()
    known = found.holds(sys.stdin.readline().rstrip("\r\n"))
    if as_json:
        data({"known": known})
    else:
        echo("known to the world" if known else "not in the list")
    if known:
        raise typer.Exit(ExitCode.NO)


def _list() -> KnownList:
    path = DataFolder(settings().data_dir).known_passwords
    try:
        return KnownList(path)
    except FileNotFoundError as error:
        raise CliError(
            "no list of known passwords was imported here: `gateway passwords import FILE`"
        ) from error
    except OSError as error:
        raise CliError(f"{path}: {error.strerror}") from error
    except BadList as error:
        raise CliError(f"{error}: import it again") from error


def _tell(facts: ListFacts, as_json: bool) -> None:
    fields: dict[str, Any] = asdict(facts)
    if as_json:
        record(fields | {"false_positive_rate": facts.false_positive_rate}, as_json=True)
        return
    fields["imported_at"] = when(facts.imported_at)
    fields["count"] = f"{facts.count:,}"
    one_in = round(1 / facts.false_positive_rate) if facts.count else 0
    record(fields | {"refused by mistake": f"1 of {one_in:,}"}, as_json=False)


def _opened(path: Path, stack: ExitStack) -> BinaryIO:
    if str(path) == "-":
        return sys.stdin.buffer
    return stack.enter_context(path.open("rb"))


def _progress(path: Path, source: BinaryIO, stack: ExitStack) -> Callable[[int], None]:
    """Shows how much of the file was read, to whoever sits in front of it."""
    if not sys.stderr.isatty() or str(path) == "-":
        return lambda _read: None
    bar = stack.enter_context(
        typer.progressbar(length=path.stat().st_size, label="reading", file=sys.stderr)
    )
    # Of a gzipped list the bytes of the file count, not those that come out of it.
    return lambda _read: bar.update(source.tell() - bar.pos)
