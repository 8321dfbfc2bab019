"""`gateway validate`, `gateway explain` and `gateway test`."""

from __future__ import annotations

import ipaddress
import json
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.access.explanation import Explanation, explain
from gateway.access.snapshot import Problem, Snapshot, compile_snapshot
from gateway.cli.opening import CONFIG, POLICIES, ConfigPath, House, PoliciesPath, run
from gateway.cli.output import AsJson, ExitCode, Stop, data, remark, say
from gateway.edge.responses import refusal_of
from gateway.identity.accounts import Accounts
from gateway.identity.keys import KeyRing
from gateway.identity.revocations import every
from gateway.identity.sealing import Sealer
from gateway.identity.tokens import TokenVerifier
from gateway.model import Principal, Reason
from gateway.review.asking import Question, ask, person
from gateway.review.cases import Case, read_cases
from gateway.review.suite import Result, explained, run_cases
from gateway.review.telling import as_data, as_text, status_of
from gateway.worker.reload import read_sources
from gateway.worker.revoked import Revoked

MAX_TOKEN_FILE_BYTES = 64 * 1024


def register(app: typer.Typer) -> None:
    app.command("validate")(validate)
    app.command("explain")(explain_call)
    app.command("test")(run_tests)


def validate(
    config: ConfigPath = CONFIG, policies: PoliciesPath = POLICIES, as_json: AsJson = False
) -> None:
    """Check the configuration.  Every problem is shown as file:line:column."""
    found = read(config, policies)
    problems = found if isinstance(found, list) else []
    notices = [] if isinstance(found, list) else list(found.notices)
    if as_json:
        data(
            {
                "valid": not problems,
                "problems": [_problem_data(problem) for problem in problems],
                "notices": [_problem_data(notice) for notice in notices],
                "version": None if isinstance(found, list) else found.version,
            }
        )
    else:
        for problem in problems:
            say(str(problem))
        for notice in notices:
            remark(f"note: {notice}")
        if isinstance(found, list):
            remark(f"{len(found)} problem{'s' if len(found) != 1 else ''}", style="bold red")
        else:
            count = len(found.policies) - 1
            say(f"valid: {len(found.routes)} routes, {count} policies, version {found.version}")
    if problems:
        raise typer.Exit(ExitCode.NO)


def explain_call(
    method: Annotated[str, typer.Argument(metavar="METHOD", help="GET, POST, …")],
    url: Annotated[str, typer.Argument(metavar="URL", help="A path, or a whole URL.")],
    email: Annotated[
        str | None, typer.Option("--as", metavar="EMAIL", help="The caller is this account.")
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(
            "--token-file", metavar="F", help="The caller's access token; `-` reads stdin."
        ),
    ] = None,
    roles: Annotated[
        str | None,
        typer.Option("--roles", metavar="A,B", help="A made-up caller has these roles."),
    ] = None,
    user_id: Annotated[
        str | None, typer.Option("--user-id", metavar="ID", help="The made-up caller's id.")
    ] = None,
    header: Annotated[
        list[str] | None, typer.Option("--header", metavar="K:V", help="A header; may be repeated.")
    ] = None,
    client_ip: Annotated[
        str, typer.Option("--client-ip", metavar="IP", help="Where the call comes from.")
    ] = "127.0.0.1",
    body: Annotated[
        Path | None, typer.Option("--body", metavar="F", help="A JSON body for the policy.")
    ] = None,
    config: ConfigPath = CONFIG,
    policies: PoliciesPath = POLICIES,
    as_json: AsJson = False,
) -> None:
    """Tell how a call would be decided, and which line decides.  Exit 0 allowed, 1 denied."""
    snapshot = compiled(config, policies)
    made_up = roles is not None or user_id is not None
    if sum((email is not None, token_file is not None, made_up)) > 1:
        raise Stop("one of --as, --token-file, or --roles with --user-id", ExitCode.USAGE)
    who: Principal | Reason = Reason.NO_CREDENTIAL
    if email is not None:
        who = _account(email)
    elif token_file is not None:
        who = _verified(_token(token_file))
    elif made_up:
        names = [name.strip() for name in (roles or "").split(",") if name.strip()]
        who = person(user_id or "someone", names, now=time.time())
    question = Question(
        method, url, who, [_header(text) for text in header or []], _address(client_ip), _body(body)
    )
    answer = ask(question, snapshot)
    decision = answer.decision
    status = status_of(decision, _status)
    if answer.call is not None:
        told = explain(decision, answer.call, snapshot, question.clock.now)
    else:
        told = Explanation(f"denied: {decision.reason}, before any route is looked for", "anybody")
    if as_json:
        data(as_data(decision, status, told))
    else:
        for text, style in as_text(decision, status, told):
            say(text, style=style)
    if not decision.allowed:
        raise typer.Exit(ExitCode.NO)


def run_tests(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[PATH]…", help="Files or folders; policies/tests by default."),
    ] = None,
    config: ConfigPath = CONFIG,
    policies: PoliciesPath = POLICIES,
    as_json: AsJson = False,
) -> None:
    """Run the policy tests.  Exit 1 when one fails."""
    snapshot = compiled(config, policies)
    cases = _cases(paths or [policies / "tests"], snapshot)
    results = run_cases(cases, snapshot, _status)
    failed = [result for result in results if not result.passed]
    if as_json:
        data(
            {
                "passed": len(results) - len(failed),
                "failed": len(failed),
                "cases": [_result_data(result) for result in results],
            }
        )
    else:
        for result in failed:
            _tell_failure(result, snapshot)
        style = "bold red" if failed else "bold green"
        say(f"{len(results) - len(failed)} passed, {len(failed)} failed", style=style)
    if failed:
        raise typer.Exit(ExitCode.NO)


def read(config: Path, policies: Path) -> Snapshot | list[Problem]:
    """The configuration, or every problem with it."""
    sources = read_sources(config, policies)
    return sources if isinstance(sources, list) else compile_snapshot(sources)


def compiled(config: Path, policies: Path) -> Snapshot:
    """The configuration; every problem on standard error and exit 1 where there are any."""
    found = read(config, policies)
    if isinstance(found, Snapshot):
        return found
    for problem in found:
        remark(str(problem))
    raise Stop("the configuration is not valid")


def _status(reason: str, refusal: Reason | None) -> int:
    return refusal_of(reason, refusal).status


def _cases(paths: list[Path], snapshot: Snapshot) -> list[Case]:
    cases: list[Case] = []
    problems: list[Problem] = []
    for path in paths:
        files = sorted(path.rglob("*.yaml")) if path.is_dir() else [path]
        for file in files:
            try:
                found = read_cases(str(file), file.read_text("utf-8"), snapshot)
            except (OSError, UnicodeDecodeError) as error:
                raise Stop(f"{file} cannot be read: {error}", ExitCode.USAGE) from error
            for one in found:
                if isinstance(one, Problem):
                    problems.append(one)
                else:
                    cases.append(one)
    for problem in problems:
        remark(str(problem))
    if problems:
        raise Stop("the tests are not valid")
    if not cases:
        raise Stop(f"no tests in {', '.join(map(str, paths))}")
    return cases


def _tell_failure(result: Result, snapshot: Snapshot) -> None:
    case = result.case
    say(f"{case.place}: FAILED {case.name}", style="bold red")
    for difference in result.differences:
        say(f"  {difference.what}: expected {difference.expected}, got {difference.got}")
    told = explained(result, snapshot)
    if told is not None:
        decision = result.answer.decision
        for text, style in as_text(decision, status_of(decision, _status), told):
            say(f"    {text}" if text else "", style=style)
    say("")


def _result_data(result: Result) -> dict[str, Any]:
    return {
        "name": result.case.name,
        "file": result.case.place.file,
        "line": result.case.place.line,
        "passed": result.passed,
        "differences": [
            {"what": one.what, "expected": one.expected, "got": one.got}
            for one in result.differences
        ],
    }


def _problem_data(problem: Problem) -> dict[str, Any]:
    return {
        "file": problem.file,
        "line": problem.line,
        "column": problem.column,
        "problem": problem.text,
    }


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise Stop(f"--header takes NAME:VALUE, not {text!r}", ExitCode.USAGE)
    return name.strip(), value.strip()


def _address(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError as error:
        raise Stop(f"--client-ip: {error}", ExitCode.USAGE) from error


def _body(path: Path | None) -> Any:
    if path is None:
        return None
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise Stop(f"--body: {error}", ExitCode.USAGE) from error


def _token(path: Path) -> str:
    try:
        held = sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
    except OSError as error:
        raise Stop(f"--token-file: {error.strerror}", ExitCode.USAGE) from error
    text = held[:MAX_TOKEN_FILE_BYTES].decode("ascii", "replace").strip()
    return text.removeprefix("Bearer ").strip()


def _account(email: str) -> Principal:
    async def work(house: House) -> Principal:
        account = await Accounts(house.database).by_email(email)
        if account is None:
            raise Stop(f"no account has the address {email}")
        if account.disabled:
            remark("the account is disabled: it could not sign in")
        return person(
            account.id,
            account.roles,
            now=house.clock.now(),
            email=account.email,
            email_verified=account.email_verified,
        )

    return run(work)


def _verified(text: str) -> Principal | Reason:
    """Who the token speaks of, or why the gateway would refuse it: signature, claims, expiry
    and revocation, as SQL has them now."""

    async def work(house: House) -> Principal | Reason:
        chosen = house.settings
        ring = KeyRing(house.database, Sealer(house.key_secret), house.clock)
        await ring.refresh()
        verifier = TokenVerifier(
            ring,
            issuer=chosen.token_issuer,
            audience=chosen.token_audience,
            max_life_s=chosen.max_token_life_s,
            clock=house.clock,
        )
        found = verifier.verify(text)
        if isinstance(found, Reason):
            return found
        revoked = Revoked()
        async for change, keep_s in every(house.database, 2 * chosen.max_token_life_s):
            revoked.apply(change, house.clock.steady() + keep_s)
        return revoked.refusal(found) or found

    return run(work)
