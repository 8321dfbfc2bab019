"""`gateway issuers list|check`: whose tokens are taken, and whether one of theirs would be."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated

import typer

from gateway.access.issuers import Issuer
from gateway.access.resource_servers import resource_paths
from gateway.access.snapshot import Snapshot
from gateway.app.data_dir import DataFolder
from gateway.cli.configuration_files import CONFIG, POLICIES, ConfigPath, PoliciesPath
from gateway.cli.configurations import compiled, compiled_for_here
from gateway.cli.environment import settings
from gateway.cli.output import AsJson, CliError, ExitCode, data, table, when
from gateway.cli.policy_callers import read_token
from gateway.edge.upstream.resolver import SystemResolver
from gateway.identity.issuers.issuer_checks import AT_ONCE, CHECK_S, CheckedRow, IssuerChecks
from gateway.identity.issuers.kept_keys import KeptKeys
from gateway.identity.issuers.verifier import IssuerVerifier, issuer_named_in
from gateway.identity.tokens.jws import is_compact
from gateway.model import SystemClock

_SHOWN_MAX = 200


def register(app: typer.Typer) -> None:
    issuers = typer.Typer(
        no_args_is_help=True, help="Other issuers, whose tokens the configuration takes."
    )
    issuers.command("list")(show)
    issuers.command("check")(check)
    app.add_typer(issuers, name="issuers")


def show(
    config: ConfigPath = CONFIG, policies: PoliciesPath = POLICIES, as_json: AsJson = False
) -> None:
    """List the issuers, and how old the keys of each are that this machine keeps."""
    kept = KeptKeys(DataFolder(settings().data_dir).issuers)
    rows = [_listed(issuer, kept) for issuer in compiled(config, policies).issuers.values()]
    if not as_json:
        for row in rows:
            row["fetched_at"] = when(row["fetched_at"])  # type: ignore[arg-type]
    table(rows, ["name", "issuer", "keys", "age_s", "fetched_at"], as_json=as_json)


def check(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="Only this issuer.", show_default=False)
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(
            "--token-file", metavar="F", help="Judge this token, claim by claim; `-` reads stdin."
        ),
    ] = None,
    config: ConfigPath = CONFIG,
    policies: PoliciesPath = POLICIES,
    as_json: AsJson = False,
) -> None:
    """Fetch the discovery and the keys of the issuers now, and show what came; judge a token.

    Exit 1 when something is refused, 3 when an issuer does not answer.
    """
    snapshot = compiled_for_here(config, policies)
    issuers = list(_named(snapshot, name).values())
    text = None if token_file is None else read_token(token_file)
    if text is not None:
        issuers = [_issuer_of(text, issuers, name)]
    paths, max_life_s = resource_paths(snapshot.routes), settings().max_token_life_s
    verifiers = [
        IssuerVerifier(
            issuer,
            max_life_s=max_life_s,
            now=SystemClock().now,
            resource_paths=paths,
        )
        for issuer in issuers
    ]
    checks = IssuerChecks(SystemResolver().addresses, SystemClock())
    within_s = CHECK_S * (1 + len(verifiers) // AT_ONCE)
    checked = asyncio.run(checks.check(verifiers, text, within_s=within_s))
    _tell([row for one in checked for row in one.rows], as_json=as_json)
    if any(one.is_away for one in checked):
        raise CliError("an issuer does not answer", ExitCode.UNREACHABLE)
    if any(row.good is False for one in checked for row in one.rows):
        raise CliError("the token is refused" if text else "an issuer is not to be believed")


def _named(snapshot: Snapshot, name: str | None) -> Mapping[str, Issuer]:
    if name is None:
        return snapshot.issuers
    if name not in snapshot.issuers:
        there = ", ".join(snapshot.issuers) or "none"
        raise CliError(f"unknown issuer {name}; there are: {there}", ExitCode.USAGE)
    return {name: snapshot.issuers[name]}


def _listed(issuer: Issuer, kept: KeptKeys) -> dict[str, object]:
    found = kept.read(issuer)
    keys = [] if found is None else list(found.keys())
    at = found.fetched_at if found is not None and keys else None
    return {
        "name": issuer.name,
        "issuer": issuer.issuer,
        "keys": keys,
        "age_s": None if at is None else max(round(time.time() - at), 0),
        "fetched_at": at,
    }


def _issuer_of(text: str, issuers: Iterable[Issuer], name: str | None) -> Issuer:
    """Whose token it is: that of its `iss`, or of NAME where only the issuer can read it."""
    by_issuer = {issuer.issuer: issuer for issuer in issuers}
    named = issuer_named_in(text) if is_compact(text) else None
    found = by_issuer.get(named) if named is not None else None
    if found is None and named is None and name is not None:
        [only] = by_issuer.values()
        found = only if only.introspection is not None else None
    if found is not None:
        return found
    whose = f"of {name}" if name is not None else "of any issuer of the configuration"
    if named is not None:
        right = " or ".join(by_issuer) or "none"
        told = f"its iss is {named[:_SHOWN_MAX]}; {right} would be right, to the byte"
    elif any(issuer.introspection is not None for issuer in by_issuer.values()):
        told = "it names no iss; name the issuer that is to be asked about it"
    else:
        told = "it is no signed JWT that names its iss"
    raise CliError(f"this is no token {whose}: {told}")


def _tell(rows: list[CheckedRow], *, as_json: bool) -> None:
    marks = {True: "✓", False: "✗", None: ""}
    listed = [
        {"issuer": row.issuer, "check": row.check, "good": row.good, "detail": row.detail}
        for row in rows
    ]
    if as_json:
        data(listed)
        return
    shown = [{**row, "good": marks[row["good"]]} for row in listed]  # type: ignore[index]
    table(shown, ["issuer", "check", "good", "detail"], as_json=False)
