"""`gateway audit tail|verify`: the audit log and its hash chain."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import AsyncIterator
from typing import Annotated, Any

import typer

from gateway.audit import chain, log, verification
from gateway.cli.context import CommandContext, run
from gateway.cli.output import AsJson, CliError, ExitCode, data, echo, sanitize, warn
from gateway.identity.key_derivation import KeyPurpose, derived_key
from gateway.identity.keys.encryption import Sealer
from gateway.identity.keys.signing_keys import readable_chain_keys

_HEAD = re.compile(r"[A-Za-z0-9._-]{1,64}:[0-9]{1,18}:[0-9a-f]{64}")
_LOOK_EVERY_S = 1.0
_LATE_MS = 10_000
_WHO = ("subject", "actor", "address", "request_id")


def register(app: typer.Typer) -> None:
    commands = typer.Typer(no_args_is_help=True, help="The audit log.")
    commands.command("tail")(tail)
    commands.command("verify")(verify)
    app.add_typer(commands, name="audit")


def tail(
    lines: Annotated[
        int, typer.Option("-n", "--lines", min=0, help="How many of the newest events.")
    ] = 50,
    every: Annotated[
        bool, typer.Option("--all", help="The whole log, oldest first; with --json the export.")
    ] = False,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on as events come.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="JSON lines: one object for each event.")
    ] = False,
) -> None:
    """Show the newest events."""

    async def work(context: CommandContext) -> None:
        newest_ms, shown = 0, set()
        async for event in _events(context, lines, every=every):
            _print(event, as_json=as_json)
            newest_ms = log.position_of(event).at_ms
            shown.add((event["writer"], event["position"]))
        while follow:
            await asyncio.sleep(_LOOK_EVERY_S)
            # A writer writes what it queued a moment ago: older events may still come.
            since = log.EventPosition(newest_ms - _LATE_MS, "", 0)
            async for event in log.after(context.database, since):
                name = (event["writer"], event["position"])
                if name not in shown:
                    _print(event, as_json=as_json)
                    newest_ms = max(newest_ms, log.position_of(event).at_ms)
                    shown.add(name)

    run(work)


def verify(
    head: Annotated[
        list[str] | None,
        typer.Option(
            "--head",
            metavar="WRITER:POSITION:HASH",
            help="A head that the ordinary log has told (`audit-head`); may be repeated.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check every chain; exit code 1 if the log was changed or cut."""
    for text in head or []:
        if not _HEAD.fullmatch(text):
            raise CliError("a head is WRITER:POSITION:HASH, as the log tells it", ExitCode.USAGE)

    async def work(context: CommandContext) -> verification.Verification:
        async with context.database.read_transaction() as tx:
            before = await readable_chain_keys(tx, Sealer(context.key_secret))
        now = derived_key(context.key_secret, KeyPurpose.AUDIT_CHAIN)
        keys = [chain.ChainKey(key) for key in (now, *before)]
        return await verification.verify(context.database, keys, tuple(head or ()))

    found = run(work)
    if as_json:
        data(
            {
                "writers": found.writers,
                "events": found.events,
                "pruned_before": found.pruned_before,
                "problems": list(found.problems),
                "notes": list(found.notes),
            }
        )
    else:
        for problem in found.problems:
            echo(problem)
        for note in found.notes:
            warn(note)
        echo(f"{found.events} events of {found.writers} writers")
        if found.pruned_before is not None:
            echo(f"rows before {found.pruned_before} were pruned")
    if found.problems:
        raise CliError(f"the audit log was changed: {len(found.problems)} problems")


async def _events(
    context: CommandContext, lines: int, *, every: bool
) -> AsyncIterator[dict[str, Any]]:
    if every:
        async for event in log.after(context.database, log.EventPosition(0, "", 0)):
            yield event
        return
    async with context.database.read_transaction() as tx:
        newest = await log.newest(tx, lines)
    if not newest:
        warn("none")
    for event in newest:
        yield event


def _print(event: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps(event, separators=(",", ":")) + "\n")
        sys.stdout.flush()
        return
    words = [str(event["at"]), str(event["event"]), str(event["result"])]
    told = {name: event[name] for name in _WHO if name in event}
    words += [f"{name}={value}" for name, value in told.items()]
    detail = dict(event.get("detail", {}))
    if isinstance(heads := detail.get("heads"), list):
        # Up to 32 hashes for each command that ran would hide everything else; --json has them.
        detail["heads"] = len(heads)
    words += [f"{name}={json.dumps(value)}" for name, value in detail.items()]
    echo(sanitize("  ".join(words)))
