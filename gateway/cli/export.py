"""`gateway export schema`, `openapi`, `dashboards`: what ships with the package, written out."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.environment import own_paths
from gateway.cli.output import AsJson, CliError, ExitCode, data, echo

SCHEMAS = ("routes", "policy", "roles", "data", "tests")
DASHBOARDS = ("grafana.json", "alerts.yaml")


def register(app: typer.Typer) -> None:
    export = typer.Typer(no_args_is_help=True, help="Write what ships with the package.")
    export.command("schema")(schema)
    export.command("openapi")(openapi)
    export.command("dashboards")(dashboards)
    app.add_typer(export, name="export")


def schema(
    folder: Annotated[
        Path, typer.Argument(metavar="[FOLDER]", help="Where to; made when it is missing.")
    ] = Path("schemas"),
    as_json: AsJson = False,
) -> None:
    """Write the JSON Schemas of every YAML file, and tell the line that names each to an editor."""
    written = _written(folder, "schemas", [f"{name}.json" for name in SCHEMAS])
    if as_json:
        data([str(path) for path in written])
        return
    for path in written:
        echo(f"# yaml-language-server: $schema={path}")


def openapi(
    file: Annotated[
        Path, typer.Argument(metavar="[FILE]", help="Where to; what stands there is replaced.")
    ] = Path("openapi.yaml"),
    as_json: AsJson = False,
) -> None:
    """Write the OpenAPI 3.1 description of what the gateway itself answers."""
    shipped = files("gateway").joinpath("schemas", "openapi.yaml").read_text("utf-8")
    text = own_paths().told_in(shipped)
    try:
        file.write_text(text, "utf-8")
    except OSError as error:
        raise CliError(f"{file}: {error.strerror}", ExitCode.USAGE) from error
    if as_json:
        data([str(file)])
        return
    echo(str(file))


def dashboards(
    folder: Annotated[
        Path, typer.Argument(metavar="[FOLDER]", help="Where to; made when it is missing.")
    ] = Path("dashboards"),
    as_json: AsJson = False,
) -> None:
    """Write a Grafana dashboard and Prometheus alerting rules for the metrics."""
    written = _written(folder, "dashboards", DASHBOARDS)
    if as_json:
        data([str(path) for path in written])
        return
    for path in written:
        echo(str(path))


def _written(folder: Path, shipped: str, names: Sequence[str]) -> list[Path]:
    """Copies of shipped files, by their names."""
    written = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in names:
            target = folder / name
            text = files("gateway").joinpath(shipped, name).read_text("utf-8")
            target.write_text(own_paths().told_in(text), "utf-8")
            written.append(target)
    except OSError as error:
        raise CliError(f"{folder}: {error.strerror}", ExitCode.USAGE) from error
    return written
