"""What a command prints: tables and colour on a terminal, plain lines in a pipe, or JSON.

Data goes to standard output, remarks to standard error, so that `gateway … --json | jq`
works while the remarks are still seen.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from enum import IntEnum
from typing import Annotated, Any

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Print data as JSON.")]
"""The type of the parameter `as_json` of every command that prints data."""


class ExitCode(IntEnum):
    GOOD = 0
    NO = 1
    """The answer is no: denied, invalid, a test failed, access widened."""
    USAGE = 2
    """Wrong usage or wrong settings."""
    UNREACHABLE = 3
    """A dependency could not be reached, or a promise could not be confirmed."""
    DEFECT = 70
    """A defect of ours (EX_SOFTWARE of sysexits.h)."""


class CliError(Exception):
    """Ends the command with one line for the user on standard error."""

    def __init__(self, text: str, code: ExitCode = ExitCode.NO) -> None:
        super().__init__(text)
        self.text = text
        self.code = code


def table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], *, as_json: bool) -> None:
    """Rows of the same columns.  JSON has every key of a row, the table only `columns`."""
    if as_json:
        data(list(rows))
        return
    if not rows:
        warn("none")
        return
    cells = [[_cell(row.get(column)) for column in columns] for row in rows]
    if sys.stdout.isatty():
        # Here, as in `_write`: where no terminal is, rich is of no use and takes its time.
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        grid = Table(box=None, header_style="bold", pad_edge=False)
        for column in columns:
            grid.add_column(_title(column), overflow="fold")
        for line in cells:
            grid.add_row(*(Text(cell) for cell in line))
        Console().print(grid)
        return
    widths = [
        max(len(line[i]) for line in [[_title(c) for c in columns], *cells])
        for i in range(len(columns))
    ]
    for line in [[_title(column) for column in columns], *cells]:
        padded = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        echo("  ".join(padded).rstrip())


def record(fields: Mapping[str, Any], *, as_json: bool) -> None:
    """One thing, a line for each of its fields."""
    if as_json:
        data(dict(fields))
        return
    width = max((len(_title(name)) for name in fields), default=0)
    for name, value in fields.items():
        echo(f"{_title(name).ljust(width)}  {_cell(value)}", bold_until=width)


def data(value: Any) -> None:
    """JSON on standard output.  A terminal obeys more control characters than JSON escapes."""
    text = json.dumps(value, indent=2, ensure_ascii=False, default=str)
    lines = (line if line.isprintable() else _escaped(line) for line in text.split("\n"))
    sys.stdout.write("\n".join(lines) + "\n")


def echo(text: str, *, style: str = "", bold_until: int = 0) -> None:
    """One line on standard output.  `style` (a rich style) shows on a terminal only."""
    _write(sys.stdout, text, style, bold_until)


def warn(text: str, *, style: str = "") -> None:
    """One line on standard error: for people, never part of the data.  Where nobody reads it any
    more it is lost: the exit code still tells how the command ended."""
    with suppress(OSError):
        _write(sys.stderr, text, style, 0)


def error(text: str) -> None:
    """As `warn`, of what ends the command."""
    with suppress(OSError):
        _write(sys.stderr, f"error: {text}", "", len("error:"), "bold red")


def when(seconds: float | None) -> str:
    """A time for people, UTC; empty for None and 0."""
    if not seconds:
        return ""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def sanitize(text: str) -> str:
    """The text without control characters: an address or a User-Agent may carry sequences
    that a terminal obeys."""
    return "".join(c if c.isprintable() or c in "\n\t" else "�" for c in text)


def _write(stream: Any, text: str, style: str, head: int, head_style: str = "bold") -> None:
    text = sanitize(text)
    if not stream.isatty():
        stream.write(text + "\n")
        stream.flush()
        return
    from rich.console import Console
    from rich.text import Text

    shown = Text(text, style=style)
    if head:
        shown.stylize(head_style, 0, head)
    Console(file=stream, highlight=False).print(shown, soft_wrap=True)


def _escaped(line: str) -> str:
    """A line of JSON in which these stand in texts alone, as JSON writes them in ASCII."""
    return "".join(
        c if c.isprintable() else "\\u007f" if c == "\x7f" else json.dumps(c)[1:-1] for c in line
    )


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple | set | frozenset):
        return ", ".join(_cell(item) for item in value)
    return sanitize(str(value)).replace("\n", " ")


def _title(column: str) -> str:
    return column.replace("_", " ")


def confirm_erasing(name: str, *, yes: bool) -> None:
    """Asks; raises CliError where the answer is no, or where nobody is there to be asked."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise CliError("no terminal to ask at: --yes erases without asking", ExitCode.USAGE)
    if not typer.confirm(f"Erase {name} for good?", err=True):
        raise CliError("nothing was erased")
