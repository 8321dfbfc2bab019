"""`gateway explain`: how a call would be decided, and by which line."""

from __future__ import annotations

import ipaddress
import json
import re
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.access.decision_record import RecordedDecision, read_record
from gateway.access.explanation import Explanation, describe, explain
from gateway.access.simulation import FixedClock, SimulatedRequest, recorded_request, simulate
from gateway.access.snapshot import Snapshot
from gateway.cli.configuration_files import CONFIG, POLICIES, ConfigPath, PoliciesPath
from gateway.cli.configurations import compiled
from gateway.cli.environment import settings
from gateway.cli.output import AsJson, CliError, ExitCode, data, echo, warn, when
from gateway.cli.policy_callers import (
    CallerOptions,
    account_of,
    bearer_of,
    issued_to,
    moment,
    read_token,
)
from gateway.cli.policy_replay import lines_of
from gateway.edge.replies.sign_in_redirects import entrance
from gateway.model import CredentialKind, Principal, Reason, SystemClock
from gateway.review.console import console_of
from gateway.review.counterfactuals import find_counterfactuals
from gateway.review.judged_again import JudgedAgain, SecondJudge
from gateway.review.rendering import as_data, as_text, as_unknown, status_of, unknown_data
from gateway.review.told_answers import NOT_HELD, status_for

_METHOD = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_ABSOLUTE = re.compile(r"https?://", re.IGNORECASE)


def register(app: typer.Typer) -> None:
    app.command("explain")(explain_call)


def explain_call(
    method: Annotated[
        str | None, typer.Argument(metavar="METHOD", help="GET, POST, …", show_default=False)
    ] = None,
    url: Annotated[
        str | None,
        typer.Argument(
            metavar="URL", help="A path, or a whole URL, with its query.", show_default=False
        ),
    ] = None,
    account: Annotated[
        str | None, typer.Option("--as", metavar="EMAIL", help="The caller is this account.")
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(
            "--token-file", metavar="F", help="The caller's access token; `-` reads stdin."
        ),
    ] = None,
    issuer: Annotated[
        str | None,
        typer.Option("--issuer", metavar="NAME", help="The caller has a token of this issuer."),
    ] = None,
    claims: Annotated[
        Path | None,
        typer.Option(
            "--claims", metavar="F", help="The claims of that token, as JSON; `-` reads stdin."
        ),
    ] = None,
    roles: Annotated[
        str | None,
        typer.Option("--roles", metavar="A,B", help="A made-up caller has these roles."),
    ] = None,
    user_id: Annotated[
        str | None, typer.Option("--user-id", metavar="ID", help="The made-up caller's id.")
    ] = None,
    email: Annotated[
        str | None, typer.Option("--email", metavar="EMAIL", help="The made-up caller's address.")
    ] = None,
    verified: Annotated[
        bool | None,
        typer.Option(
            "--verified/--unverified", help="Whether the address is verified.", show_default=False
        ),
    ] = None,
    auth_age: Annotated[
        str | None,
        typer.Option("--auth-age", metavar="AGE", help="Signed in so long ago: 90s, 20m, 8h."),
    ] = None,
    auth_time: Annotated[
        str | None,
        typer.Option("--auth-time", metavar="TIME", help="Signed in at 2026-01-05T09:00:00Z."),
    ] = None,
    amr: Annotated[
        str | None, typer.Option("--amr", metavar="A,B", help="How: pwd,totp; pwd by default.")
    ] = None,
    scopes: Annotated[
        str | None,
        typer.Option("--scopes", metavar="A,B", help="The credential is limited to these actions."),
    ] = None,
    claim: Annotated[
        list[str] | None,
        typer.Option("--claim", metavar="K=V", help="A claim, as JSON or text; may be repeated."),
    ] = None,
    session_id: Annotated[
        str | None, typer.Option("--session-id", metavar="ID", help="The session's id.")
    ] = None,
    kind: Annotated[
        CredentialKind | None,
        typer.Option("--with", help="What the caller shows; a bearer token by default."),
    ] = None,
    header: Annotated[
        list[str] | None, typer.Option("--header", metavar="K:V", help="A header; may be repeated.")
    ] = None,
    client_ip: Annotated[
        str, typer.Option("--client-ip", metavar="IP", help="Where the call comes from.")
    ] = "127.0.0.1",
    at: Annotated[
        str | None,
        typer.Option("--at", metavar="TIME", help="When: 2026-01-05T09:00:00Z; now by default."),
    ] = None,
    body: Annotated[
        Path | None,
        typer.Option("--body", metavar="F", help="A JSON body for the policy; `-` reads stdin."),
    ] = None,
    request_id: Annotated[
        str | None,
        typer.Option("--request-id", metavar="ID", help="Explain a call of the decision log."),
    ] = None,
    log: Annotated[
        Path | None,
        typer.Option(
            "--log", metavar="PATH", help="The decision log; decisions/ in the data folder."
        ),
    ] = None,
    console: Annotated[
        bool,
        typer.Option(
            "--console",
            help="The call is one of the operator's console: GET asks for admin:read, POST for"
            " admin:write.",
        ),
    ] = False,
    config: ConfigPath = CONFIG,
    policies: PoliciesPath = POLICIES,
    as_json: AsJson = False,
) -> None:
    """Tell how a call would be decided, and which line decides.  Exit 0 allowed, 1 denied, or not
    known, where a recorded call lacks what decides."""
    said = CallerOptions(
        user_id, roles, email, verified, session_id, auth_age, auth_time, amr, scopes, claim, kind
    )
    if request_id is not None:
        told = (at, account, token_file, issuer, claims)
        if not said.nothing or console or any(one is not None for one in told):
            raise CliError("who called and when, a recorded call says by itself", ExitCode.USAGE)
        recorded, snapshot = _recorded(request_id, log), compiled(config, policies)
        judged = SecondJudge(snapshot).judge(recorded)
        if judged.unknown:
            _tell_unknown(judged, as_json)
        else:
            _tell(recorded_request(recorded), snapshot, as_json)
        return
    if method is None or url is None:
        raise CliError("METHOD and URL, or --request-id", ExitCode.USAGE)
    if token_file is not None and not said.nothing:
        raise CliError(
            "who its bearer is and how they signed in, a token says by itself", ExitCode.USAGE
        )
    if (issuer is None) is not (claims is None) or (issuer is not None and not said.nothing):
        raise CliError(
            "--issuer NAME and --claims FILE say together who calls, and nothing else does",
            ExitCode.USAGE,
        )
    callers = (account is not None, token_file is not None, issuer is not None, said.who_is_made_up)
    if sum(callers) > 1:
        raise CliError(
            "one of --as, --token-file, --issuer with --claims, or --roles with --user-id",
            ExitCode.USAGE,
        )
    _check_words(method, url)
    said.check()
    now = time.time() if at is None else moment("--at", at)
    snapshot = compiled(config, policies)
    if console:
        snapshot = console_of(snapshot)
    who: Principal | Reason = Reason.NO_CREDENTIAL
    if token_file is not None:
        who = bearer_of(read_token(token_file), snapshot)
    elif issuer is not None and claims is not None:
        who = issued_to(issuer, claims, snapshot, now)
    elif account is not None:
        who = said.person(now, account_of(account, snapshot))
    elif not said.nothing:
        who = said.person(now)
    question = SimulatedRequest(
        method,
        url,
        who,
        [_header(text) for text in header or []],
        _address(client_ip),
        _body(body),
        SystemClock() if at is None else FixedClock(now),
        kind or CredentialKind.BEARER,
    )
    _tell(question, snapshot, as_json)


def _check_words(method: str, url: str) -> None:
    """What could be in no request is a slip of whoever types."""
    if not _METHOD.fullmatch(method):
        raise CliError(f"{method!r} is no method such as GET", ExitCode.USAGE)
    if not (url.startswith("/") or _ABSOLUTE.match(url)):
        raise CliError(f"{url!r} is no URL: a path begins with /", ExitCode.USAGE)


def _tell(question: SimulatedRequest, snapshot: Snapshot, as_json: bool) -> None:
    answer = simulate(question, snapshot)
    decision = answer.decision
    status = status_of(decision, status_for)
    led_to = None
    if answer.call is not None:
        led_to = entrance(answer.call, decision, snapshot)
        told = explain(decision, answer.call, snapshot, question.clock.now)
        if decision.route is None and isinstance(question.caller, Principal):
            told.caller = f"{describe(question.caller, answer.call)} (not looked at: no route)"
    else:
        told = Explanation(f"denied: {decision.reason}, before any route is looked for", "anybody")
    turns = find_counterfactuals(question, answer, snapshot)
    if as_json:
        data(as_data(decision, status, told, turns, led_to))
    else:
        for text, style in as_text(decision, status, told, turns, led_to):
            echo(text, style=style)
    if not decision.allowed:
        raise typer.Exit(ExitCode.NO)


def _tell_unknown(judged: JudgedAgain, as_json: bool) -> None:
    """Where what decides was not written down: neither allowed nor denied."""
    if as_json:
        data(unknown_data(judged.decision, judged.unknown))
    else:
        for text, style in as_unknown(judged.decision, judged.unknown):
            echo(text, style=style)
    warn(f"note: not known how it would be judged: {NOT_HELD} {', '.join(judged.unknown)}")
    raise typer.Exit(ExitCode.NO)


def _recorded(request_id: str, log: Path | None) -> RecordedDecision:
    """The decision of the log with that id."""
    folder = log if log is not None else settings().data_dir / "decisions"
    if not folder.exists():
        hint = "" if log is not None else "; GATEWAY_DECISION_LOG writes it, --log names another"
        raise CliError(f"there is no decision log {folder}{hint}", ExitCode.USAGE)
    wanted = request_id.encode()
    for line in lines_of(folder):
        if wanted not in line:
            continue
        recorded = read_record(json.loads(line))
        if recorded is None or recorded.request_id != request_id:
            continue
        answered = "allowed" if recorded.allowed else f"denied with {recorded.reason}"
        warn(f"at {when(recorded.at)}, by version {recorded.version}, it was {answered}")
        return recorded
    raise CliError(f"{folder} holds no decision with the id {request_id}")


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise CliError(f"--header takes NAME:VALUE, not {text!r}", ExitCode.USAGE)
    return name.strip(), value.strip()


def _address(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError as error:
        raise CliError(f"--client-ip: {error}", ExitCode.USAGE) from error


def _body(path: Path | None) -> Any:
    if path is None:
        return None
    try:
        text = sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
        body = json.loads(text)
    except (OSError, ValueError) as error:
        raise CliError(f"--body: {error}", ExitCode.USAGE) from error
    # `null` is refused as a list is; None would be a call without a body.
    return [] if body is None else body
