"""`gateway diff`: who gains and who loses access between two configurations."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Annotated, Any

import typer

from gateway.cli.configuration_files import CONFIG, POLICIES, ConfigPath, PoliciesPath
from gateway.cli.configurations import FailOn, compiled_from
from gateway.cli.output import AsJson, ExitCode, data, echo, warn
from gateway.review.calls import Roles
from gateway.review.changes import AccessChange
from gateway.review.console import compare_all
from gateway.review.definitions import DefinitionChange


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
    """Tell who gains and who loses access to what, by asking the real decision on both sides.

    The operator's console, which `console:` lets people into, is told like a route.
    """
    report = compare_all(compiled_from(old, config, policies), compiled_from(new, config, policies))
    if as_json:
        data(
            {
                "changes": [change_data(change) for change in report.changes],
                "definitions": [_definition_data(one) for one in report.definitions],
                "widened": report.widened,
                "may_widen": report.may_widen,
                "asked": report.decisions,
                "inexact": report.inexact,
                "sign_in": {route: "page" if page else "off" for route, page in report.sign_in},
            }
        )
    else:
        for change in report.changes:
            echo(str(change), style="green" if not change.gains else "bold yellow")
        for one in report.definitions:
            echo(str(one), style="bold yellow" if one.gains else "green")
        for text in report.inexact:
            warn(f"note: not every kind of call could be tried, access may widen: {text}")
        for route, page in report.sign_in:
            led = "led to the sign-in page" if page else "answered 401"
            echo(f"route {route}: browsers without a session are {led} now")
        told = [change.gains for change in report.changes]
        told += [one.gains for one in report.definitions]
        echo(f"{sum(told)} gained, {len(told) - sum(told)} lost")
    widens = report.widened or report.may_widen
    failed = (
        widens if fail_on is FailOn.WIDEN else bool(report.changes or report.definitions) or widens
    )
    if fail_on is not None and failed:
        raise typer.Exit(ExitCode.NO)


def change_data(change: AccessChange) -> dict[str, Any]:
    """One change as data; what it does not restrict is null or empty."""
    place = change.location if change.location is not None and change.location.line else None
    return {
        "change": "gains" if change.gains else "loses",
        "certain": change.certain,
        "who": change.caller(),
        "signed_in": change.signed,
        "roles": _role_sets(change.roles),
        "unless_roles": _role_sets(change.unless),
        "owner_of": list(change.owner_of),
        "sign_in": [{"asked": asked, "met": met} for asked, met in change.sign_in],
        "with": [str(kind) for kind in change.with_],
        "scopes": [list(one) for one in change.scopes],
        "method": change.method(),
        "methods": list(change.methods),
        "host": change.host,
        "path": change.pattern,
        "console": list(change.permissions),
        "such_as": change.such_as or None,
        "from": [str(block) for block in change.blocks],
        "conditions": [
            {"when": one.source}
            | ({} if one.outcome is None else {"is": _outcome(one.outcome)})
            | ({} if one.before is None else {"was": _outcome(one.before)})
            | ({"in": "lower case"} if one.in_other_letters else {})
            for one in change.where
        ],
        "values": []
        if change.values is None
        else [dict(zip(change.values.names, row, strict=True)) for row in change.values.rows],
        "before": change.before,
        "after": change.after,
        "because": change.because or None,
        "rule": change.rule,
        "file": place.file if place is not None else None,
        "line": place.line if place is not None else None,
    }


def _definition_data(change: DefinitionChange) -> dict[str, Any]:
    place = change.location if change.location is not None and change.location.line else None
    return {
        "change": "gains" if change.gains else "loses",
        "certain": False,
        "definition": change.name,
        "fields": list(change.fields),
        "who": change.who,
        "routes": list(change.routes),
        "file": place.file if place is not None else None,
        "line": place.line if place is not None else None,
    }


def _role_sets(sets: Sequence[Roles]) -> list[list[str]]:
    """Every set of roles by itself: of roles that do the same, each."""
    return [sorted(one) for roles in sets for one in product(*roles)]


def _outcome(word: str) -> bool | str:
    return {"true": True, "not true": False}.get(word, word)
