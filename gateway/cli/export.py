"""`gateway export schema`: what ships with the package, written where editors find it."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.output import AsJson, ExitCode, Stop, data, say

SCHEMAS = ("routes", "policy", "roles", "data", "tests")


def register(app: typer.Typer) -> None:
    export = typer.Typer(no_args_is_help=True, help="Write what ships with the package.")
    export.command("schema")(schema)
    app.add_typer(export, name="export")


def schema(
    folder: Annotated[
        Path, typer.Argument(metavar="[FOLDER]", help="Where to; made when it is missing.")
    ] = Path("schemas"),
    as_json: AsJson = False,
) -> None:
    """Write the JSON Schemas of every YAML file, and tell the line that names each to an editor."""
    written = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in SCHEMAS:
            text = files("gateway").joinpath("schemas", f"{name}.json").read_text("utf-8")
            target = folder / f"{name}.json"
            target.write_text(text, "utf-8")
            written.append(target)
    except OSError as error:
        raise Stop(f"{folder}: {error.strerror}", ExitCode.USAGE) from error
    if as_json:
        data([str(path) for path in written])
        return
    for path in written:
        say(f"# yaml-language-server: $schema={path}")
