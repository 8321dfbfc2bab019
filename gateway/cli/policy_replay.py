"""`gateway replay`: recorded decisions judged by another configuration."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.cli.configuration_files import CONFIG, POLICIES, ConfigPath, PoliciesPath
from gateway.cli.configurations import FailOn, compiled_from
from gateway.cli.output import AsJson, CliError, ExitCode, data, echo, warn
from gateway.review.replay import ChangedDecision, Replay, ReplayGroup, replay


def register(app: typer.Typer) -> None:
    app.command("replay")(run_replay)


def run_replay(
    log: Annotated[
        Path, typer.Argument(metavar="LOG", help="A file of the decision log, or its folder.")
    ],
    against: Annotated[
        str, typer.Option("--against", metavar="DIR", help="A folder or a git revision.")
    ],
    fail_on: Annotated[
        FailOn | None,
        typer.Option("--fail-on", help="Exit 1 when a call gains access, or on any change."),
    ] = None,
    config: ConfigPath = CONFIG,
    policies: PoliciesPath = POLICIES,
    as_json: AsJson = False,
) -> None:
    """Judge recorded decisions by another configuration, and show what it would change."""
    found = replay(lines_of(log), compiled_from(against, config, policies))
    if not found.total:
        raise CliError(f"{log} holds no decisions", ExitCode.USAGE)
    if as_json:
        data(_data(found))
    else:
        _tell(found)
    failed = found.gains if fail_on is FailOn.WIDEN else found.changed
    if fail_on is not None and failed:
        raise typer.Exit(ExitCode.NO)


def lines_of(log: Path) -> Iterator[bytes]:
    """The lines of one file, or of every `*.jsonl` in a folder."""
    files = sorted(log.glob("*.jsonl")) if log.is_dir() else [log]
    for file in files:
        try:
            with file.open("rb") as held:
                yield from held
        except OSError as error:
            raise CliError(f"{file}: {error.strerror}", ExitCode.USAGE) from error


def _tell(found: Replay) -> None:
    for group, count in found.groups.most_common():
        style = "bold yellow" if group.kind == "gains" else "green"
        echo(_sentence(group, count), style=style)
        for changed in found.examples[group]:
            echo(f"    {_example(changed)}", style="dim")
    for name, count in found.unknown_names.most_common(5):
        warn(f"note: {count} could not be judged: the {name} was not recorded")
    echo(
        f"{found.total} decisions: {found.same} the same, {found.gains} gain, {found.loses} lose, "
        f"{found.other_reason} for another reason"
    )
    rest = {
        "could not be judged": found.unknown,
        "were no matter of a policy": found.unjudged,
        "could not be read": found.unreadable,
    }
    for text, count in rest.items():
        if count:
            echo(f"{count} {text}")


def _sentence(group: ReplayGroup, count: int) -> str:
    change = {"gains": "GAIN", "loses": "LOSE"}.get(group.kind, "CHANGE")
    where = f" on route {group.route}" if group.route else ""
    return f"{count} {change}{where}: {group.before} → {group.after}"


def _example(changed: ChangedDecision) -> str:
    recorded, decision = changed.recorded, changed.decision
    who = getattr(recorded.caller, "subject", "nobody")
    roles = ",".join(getattr(recorded.caller, "roles", ()))
    place = decision.location
    line = f" ({place})" if place is not None and place.line else ""
    shown = f"{who} [{roles}]" if roles else who
    return f"{recorded.call.method} {recorded.call.path} as {shown}{line}  {recorded.request_id}"


def _data(found: Replay) -> dict[str, Any]:
    return {
        "total": found.total,
        "same": found.same,
        "gains": found.gains,
        "loses": found.loses,
        "another_reason": found.other_reason,
        "unknown": found.unknown,
        "unjudged": found.unjudged,
        "unreadable": found.unreadable,
        "changes": [
            {
                "change": group.kind,
                "count": count,
                "before": group.before,
                "after": group.after,
                "route": group.route,
                "examples": [
                    {
                        "request_id": one.recorded.request_id,
                        "method": one.recorded.call.method,
                        "path": one.recorded.call.path,
                        "user": getattr(one.recorded.caller, "subject", None),
                        "roles": list(getattr(one.recorded.caller, "roles", ())),
                        "file": one.decision.location.file if one.decision.location else None,
                        "line": one.decision.location.line if one.decision.location else None,
                    }
                    for one in found.examples[group]
                ],
            }
            for group, count in found.groups.most_common()
        ],
    }
