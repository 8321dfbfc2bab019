"""`gateway diff`: who gains and who loses access between two configurations."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from gateway.cli.configurations import FailOn, compiled_from
from gateway.cli.opening import CONFIG, POLICIES, ConfigPath, PoliciesPath
from gateway.cli.output import AsJson, ExitCode, data, remark, say
from gateway.review.diff import Change, compare


def register(app: typer.Typer) -> None:
    app.command("diff")(show_diff)


def show_diff(
    old: Annotated[str, typer.Argument(metavar="OLD", help="A folder or a git revision.")],
    new: Annotated[
        str, typer.Argument(metavar="[NEW]", help="A folder or a git revision; here by default.")
    ] = ".",
    fail_on: Annotated[
        FailOn | None,
        typer.Option("--fail-on", help="Exit 1 when somebody gains access, or on any change."),
    ] = None,
    config: ConfigPath = CONFIG,
    policies: PoliciesPath = POLICIES,
    as_json: AsJson = False,
) -> None:
    """Tell who gains and who loses access to what, by asking the real decision on both sides."""
    report = compare(compiled_from(old, config, policies), compiled_from(new, config, policies))
    if as_json:
        data(
            {
                "changes": [_data(change) for change in report.changes],
                "widened": report.widened,
                "asked": report.asked,
                "inexact": report.inexact,
            }
        )
    else:
        for change in report.changes:
            say(str(change), style="green" if not change.gains else "bold yellow")
        for text in report.inexact:
            remark(f"note: not every combination was tried: {text}")
        gained = sum(change.gains for change in report.changes)
        say(f"{gained} gained, {len(report.changes) - gained} lost")
    failed = report.widened if fail_on is FailOn.WIDEN else bool(report.changes)
    if fail_on is not None and failed:
        raise typer.Exit(ExitCode.NO)


def _data(change: Change) -> dict[str, Any]:
    caller, place = change.caller, change.place
    return {
        "change": "gains" if change.gains else "loses",
        "who": change.who(),
        "roles": sorted(caller.roles),
        "signed_in": caller.signed_in,
        "owner_of": sorted(caller.is_),
        "fresh_sign_in": not caller.stale,
        "method": change.request.method,
        "host": change.request.host,
        "path": change.request.pattern,
        "conditions": [{"when": source, "is": value} for source, value in change.conditions],
        "before": change.before,
        "after": change.after,
        "rule": change.rule,
        "file": place.file if place is not None and place.line else None,
        "line": place.line if place is not None and place.line else None,
    }
