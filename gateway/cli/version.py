"""`gateway version`."""

from __future__ import annotations

import platform
from importlib.metadata import version as version_of

import typer

from gateway import compiled
from gateway.cli.output import AsJson, data, echo


def register(app: typer.Typer) -> None:
    app.command("version")(version)


def version(as_json: AsJson = False) -> None:
    """Print the version of authgate and of Python."""
    found = {
        "authgate": version_of("authgate"),
        "python": platform.python_version(),
        "build": compiled.build(),
    }
    if as_json:
        data(found)
    else:
        echo(f"authgate {found['authgate']} (Python {found['python']}, {found['build']})")
