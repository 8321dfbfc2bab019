"""`gateway validate` and `gateway reload --check`."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.access.snapshot import Snapshot
from gateway.cli.configuration_files import CONFIG, POLICIES, ConfigPath, PoliciesPath
from gateway.cli.configurations import read, read_for_here
from gateway.cli.environment import settings
from gateway.cli.output import AsJson, ExitCode, data, echo, warn
from gateway.edge.pages.overrides import PAGES, read_overrides
from gateway.model import ConfigProblem

_ASK_WITHIN_S = 3.0


def register(app: typer.Typer) -> None:
    app.command("validate")(validate)
    app.command("reload")(check_reload)


def validate(
    config: ConfigPath = CONFIG,
    policies: PoliciesPath = POLICIES,
    watch: Annotated[
        bool, typer.Option("--watch", help="Check again after every edit, until Ctrl-C.")
    ] = False,
    texts_only: Annotated[
        bool,
        typer.Option(
            "--texts-only",
            help="Leave out whether the certificate files that upstreams name, and the secrets"
            " that routes name, are good here.",
        ),
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 1 where there is a warning, too.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Check the configuration.  Every problem is shown as file:line:column.

    What is no mistake but hardly meant, such as an action that no route has, is a warning: it is
    printed apart, to standard error, and the exit code stays 0 (without --strict).
    """

    def check(config: Path, policies: Path) -> Snapshot | list[ConfigProblem]:
        found = (read if texts_only else read_for_here)(config, policies)
        pages = read_overrides(config.parent / PAGES)
        if isinstance(pages, list):
            return [*(found if isinstance(found, list) else ()), *pages]
        return found

    if watch:
        for _ in edits(config, policies):
            echo(time.strftime("%H:%M:%S"), style="dim")
            tell(check(config, policies))
        return
    found = check(config, policies)
    if as_json:
        data(_data(found))
    else:
        tell(found)
        if isinstance(found, list):
            _tell_renamed_words(config, policies)
        for path in sorted(policies.rglob("*.yml")):
            warn(f"note: {path} is not read: its name must end with .yaml")
    if isinstance(found, list) or (strict and found.notices):
        raise typer.Exit(ExitCode.NO)


def check_reload(
    check: Annotated[
        bool, typer.Option("--check", help="Tell what a reload would do; the default.")
    ] = True,
    config: ConfigPath = CONFIG,
    policies: PoliciesPath = POLICIES,
    as_json: AsJson = False,
) -> None:
    """Check the configuration, and tell whether the running gateway has it.

    A gateway takes an edit up by itself within a second; nothing has to be sent to it.
    """
    del check
    found = read_for_here(config, policies)
    running = _running_versions()
    if as_json:
        data(_data(found) | {"running": running})
    else:
        tell(found)
        version = None if isinstance(found, list) else found.version
        if running is None:
            warn("no gateway answers here")
        for worker, held in (running or {}).items():
            state = "has it" if held == version else f"has version {held}"
            echo(f"worker {worker} {state}")
    if isinstance(found, list):
        raise typer.Exit(ExitCode.NO)


def tell(found: Snapshot | list[ConfigProblem]) -> None:
    """Each problem a line; or, apart from that all is well, what is hardly meant."""
    if isinstance(found, list):
        for problem in found:
            echo(str(problem))
        warn(f"{len(found)} problem{'s' if len(found) != 1 else ''}", style="bold red")
        return
    for notice in found.notices:
        warn(f"warning: {notice}")
    count = len(found.policies) - 1
    routes = counted(len(found.routes), "route", "routes")
    echo(f"valid: {routes}, {counted(count, 'policy', 'policies')}, version {found.version}")


def counted(count: int, one: str, many: str) -> str:
    return f"{count:,} {one if count == 1 else many}"


def _tell_renamed_words(config: Path, policies: Path) -> None:
    # As with the others that are imported where they are used here: a configuration that is good
    # needs none of them.
    from gateway.cli.config_migrate import outdated_words

    if words := outdated_words(config, policies):
        warn(f"{counted(len(words), 'word was', 'words were')} renamed: `gateway config migrate`")


def edits(config: Path, policies: Path) -> Iterator[None]:
    """Once at the start, and after every change of a file of the configuration."""
    import watchfiles

    yield None
    folder = config.parent.resolve()
    watched = [folder, *([policies.resolve()] if policies.is_dir() else [])]
    for changes in watchfiles.watch(*watched, raise_interrupt=False, debounce=100, step=50):
        if any(path.endswith(".yaml") for _, path in changes):
            yield None


def _running_versions() -> dict[str, str] | None:
    """The version that each worker of the gateway of these settings has; None where none runs."""
    from http.client import HTTPConnection, HTTPException

    listen = settings().admin_listen
    asked = HTTPConnection(listen.host, listen.port, timeout=_ASK_WITHIN_S)
    try:
        asked.request("GET", "/readyz", headers={"Host": "localhost"})
        told: Any = json.loads(asked.getresponse().read(1_000_000))
        workers = told.get("workers") if isinstance(told, dict) else None
        return {
            str(worker.get("worker", number)): str(worker["configuration"]["version"])
            for number, worker in enumerate(workers or ())
        }
    except (OSError, HTTPException, ValueError, KeyError, TypeError, AttributeError):
        return None
    finally:
        asked.close()


def _data(found: Snapshot | list[ConfigProblem]) -> dict[str, Any]:
    problems = found if isinstance(found, list) else []
    notices = () if isinstance(found, list) else found.notices
    return {
        "valid": not problems,
        "problems": [_problem(problem) for problem in problems],
        "notices": [_problem(notice) for notice in notices],
        "version": None if isinstance(found, list) else found.version,
    }


def _problem(problem: ConfigProblem) -> dict[str, Any]:
    return {
        "file": problem.file,
        "line": problem.line,
        "column": problem.column,
        "problem": problem.text,
    }
