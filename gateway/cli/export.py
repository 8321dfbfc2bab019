"""`gateway export schema` and `openapi`: what ships with the package, written where it is asked."""

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
    export.command("openapi")(openapi)
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


def openapi(
    file: Annotated[
        Path, typer.Argument(metavar="[FILE]", help="Where to; what stands there is replaced.")
    ] = Path("openapi.yaml"),
    as_json: AsJson = False,
) -> None:
    """Write the OpenAPI 3.1 description of what the gateway itself answers."""
    text = files("gateway").joinpath("schemas", "openapi.yaml").read_text("utf-8")
    try:
        file.write_text(text, "utf-8")
    except OSError as error:
        raise Stop(f"{file}: {error.strerror}", ExitCode.USAGE) from error
    if as_json:
        data([str(file)])
        return
    say(str(file))
