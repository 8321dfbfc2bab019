"""`gateway why`: what one answer was about, by the id that its caller was shown."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from gateway.access.snapshot import Snapshot
from gateway.cli.configuration_files import CONFIG, POLICIES, ConfigPath, PoliciesPath
from gateway.cli.configurations import read
from gateway.cli.context import TAKES_DASHED_IDS
from gateway.cli.environment import configuration_settings, settings
from gateway.cli.output import AsJson, CliError, ExitCode, data, echo, warn, when
from gateway.cli.refusal_sources import Search
from gateway.review.reason_guide import plain
from gateway.review.told_answers import LoggedAnswer, ToldAnswer, judge_again, judgeable

_ID = re.compile(r"[!-~]{1,256}")


def register(app: typer.Typer) -> None:
    app.command("why", context_settings=TAKES_DASHED_IDS)(why)


def why(
    request_id: Annotated[
        str,
        typer.Argument(
            metavar="REQUEST_ID", help="The `request_id` of an answer, or its X-Request-Id."
        ),
    ],
    log: Annotated[
        Path | None,
        typer.Option(
            "--log",
            metavar="F",
            help="A file of the access log or the decision log, or a folder of it; `-` reads"
            " stdin. Without it the running gateway and the logs of this installation.",
        ),
    ] = None,
    config: ConfigPath = CONFIG,
    policies: PoliciesPath = POLICIES,
    as_json: AsJson = False,
) -> None:
    """Tell why a call was refused: the rule with file and line, what came nearest to allowing it,
    and the smallest change.  Exit 0 known, 1 the id is nowhere."""
    if not _ID.fullmatch(request_id):
        raise CliError(f"{request_id!r} is no id of a request", ExitCode.USAGE)
    search = Search(request_id)
    found = search.in_installation(settings()) if log is None else search.in_path(log)
    if found is None:
        if as_json:
            data({"request_id": request_id, "found": None, "looked": search.looked})
        looked = "".join(f"\n  looked: {one}" for one in search.looked)
        raise CliError(f"{request_id} is nowhere{looked}")
    told = ToldAnswer.of(request_id, found, configuration_settings().reasons_url)
    _judge_again(told, found, config, policies)
    if as_json:
        data(told.as_data())
    else:
        _print(told)


def _judge_again(told: ToldAnswer, found: LoggedAnswer, config: Path, policies: Path) -> None:
    """What was nearest to allowing it and the smallest change, by the configuration of here."""
    if judgeable(found) is None:
        return
    if not config.exists():
        told.notes.append(f"not judged again, as there is no {config} here: --config names it")
        return
    snapshot = read(config, policies)
    if not isinstance(snapshot, Snapshot):
        told.notes.append(
            f"not judged again, as the configuration is not valid: {snapshot[0]} (gateway validate)"
        )
        return
    judge_again(told, found, snapshot)


def _print(told: ToldAnswer) -> None:
    facts = told.facts
    verdict = "ALLOWED" if told.allowed else "REFUSED"
    style = "bold green" if told.allowed else "bold red"
    echo(f"{verdict}  {told.status}  {told.reason or ''}".rstrip(), style=style)
    call = " ".join(str(facts[name]) for name in ("method", "path") if name in facts)
    on = f" on {facts['host']}" if "host" in facts else ""
    by = f" by {facts['user']}" if "user" in facts else ""
    source = f" from {facts['ip']}" if "ip" in facts else ""
    echo(f"call    {call or 'never read as one'}{on}{by}{source}")
    worker = f", worker {told.worker}" if told.worker is not None else ""
    echo(f"when    {when(told.at)}{worker}; found in {told.where}")
    if "rule" in facts:
        place = f"  {facts['file']}:{facts['line']}" if "file" in facts else ""
        echo(f"rule    {facts['rule']} of policy {facts.get('policy', '')}{place}")
    elif "route" in facts:
        echo(f"route   {facts['route']}")
    guide = told.guide
    if guide is not None:
        for title, text in (
            ("what happened", guide.happened),
            ("why", guide.why),
            ("the caller can", guide.caller),
            ("the operator can", guide.operator),
        ):
            echo("")
            echo(title, style="bold")
            echo(f"  {plain(text).replace('REQUEST_ID', told.request_id)}")
    if told.page is not None:
        echo(f"\n{told.page}")
    if told.lines:
        echo("")
        echo("judged again, by the configuration of here", style="bold")
        for text, line_style in told.lines:
            echo(f"  {text}".rstrip(), style=line_style)
    for note in told.notes:
        warn(f"note: {note}")
