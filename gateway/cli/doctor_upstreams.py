"""`gateway doctor upstreams`: whether a backend can be talked to around the gateway."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Annotated

import typer

from gateway.access.snapshot import Snapshot
from gateway.cli.configuration_files import CONFIG, POLICIES, ConfigPath, PoliciesPath
from gateway.cli.configurations import compiled
from gateway.cli.exposure import exposures
from gateway.cli.output import AsJson, CliError, ExitCode, table
from gateway.stores.health import State


def upstreams(
    names: Annotated[list[str] | None, typer.Argument(help="Only these upstreams.")] = None,
    config: ConfigPath = CONFIG,
    policies: PoliciesPath = POLICIES,
    path: Annotated[
        list[str] | None,
        typer.Option(
            "--path",
            metavar="UPSTREAM=PATH",
            help="What to GET of an upstream, where its routes do not tell an address that exists.",
        ),
    ] = None,
    outside: Annotated[
        bool, typer.Option("--outside", help="This machine must not reach any of them.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Find upstreams that can be reached around the gateway, or that believe forged headers.

    Each is connected to and asked with GET, never with anything else: once as a stranger, once
    with made-up identity headers, and where it asks for assertions once with one that nobody
    signed.  Exit 1 when one is exposed, 3 when one does not answer.
    """
    snapshot = compiled(config, policies)
    wanted = names or []
    _known(snapshot, wanted)
    found = exposures(snapshot, wanted, paths=_paths(snapshot, path or []), outside=outside)
    rows = [asdict(one) for one in found]
    table(rows, ["upstream", "target", "check", "state", "detail"], as_json=as_json)
    states = {one.state for one in found}
    if State.BAD in states:
        raise CliError("an upstream can be talked to around the gateway", ExitCode.NO)
    if State.AWAY in states:
        raise CliError("an upstream does not answer", ExitCode.UNREACHABLE)


def _known(snapshot: Snapshot, names: Iterable[str]) -> None:
    unknown = [name for name in names if name not in snapshot.upstreams]
    if unknown:
        there = ", ".join(snapshot.upstreams) or "none"
        raise CliError(f"unknown upstream {unknown[0]}; there are: {there}", ExitCode.USAGE)


def _paths(snapshot: Snapshot, given: Iterable[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in given:
        name, equals, path = text.partition("=")
        well_formed = path.startswith("/") and path.isascii() and path.isprintable()
        if not equals or not well_formed or " " in path:
            raise CliError(f"--path takes UPSTREAM=/PATH, not {text}", ExitCode.USAGE)
        _known(snapshot, [name])
        found[name] = path
    return found
