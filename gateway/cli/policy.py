"""`gateway explain`; and where the other commands about policies are registered."""

from __future__ import annotations

import ipaddress
import json
import re
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.access.asking import Question, ask, person, question_of
from gateway.access.explanation import Explanation, describe, explain
from gateway.access.records import read_record
from gateway.access.snapshot import Snapshot
from gateway.cli import policy_diff, policy_replay, policy_test, policy_validate
from gateway.cli.configurations import compiled, status_for
from gateway.cli.environment import settings
from gateway.cli.opening import CONFIG, POLICIES, ConfigPath, House, PoliciesPath, run
from gateway.cli.output import AsJson, ExitCode, Stop, data, remark, say, when
from gateway.cli.policy_replay import lines_of
from gateway.identity.accounts import ROLE, Accounts
from gateway.identity.keys import KeyRing
from gateway.identity.revocations import every
from gateway.identity.sealing import Sealer
from gateway.identity.tokens import TokenVerifier
from gateway.model import Principal, Reason
from gateway.review.flips import flips
from gateway.review.telling import as_data, as_text, status_of
from gateway.worker.revoked import Revoked

_METHOD = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_ABSOLUTE = re.compile(r"https?://", re.IGNORECASE)
MAX_TOKEN_FILE_BYTES = 64 * 1024


def register(app: typer.Typer) -> None:
    policy_validate.register(app)
    app.command("explain")(explain_call)
    policy_test.register(app)
    policy_diff.register(app)
    policy_replay.register(app)


def explain_call(
    method: Annotated[
        str | None, typer.Argument(metavar="METHOD", help="GET, POST, …", show_default=False)
    ] = None,
    url: Annotated[
        str | None,
        typer.Argument(metavar="URL", help="A path, or a whole URL.", show_default=False),
    ] = None,
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
    config: ConfigPath = CONFIG,
    policies: PoliciesPath = POLICIES,
    as_json: AsJson = False,
) -> None:
    """Tell how a call would be decided, and which line decides.  Exit 0 allowed, 1 denied."""
    made_up = roles is not None or user_id is not None
    if request_id is None and (method is None or url is None):
        raise Stop("METHOD and URL, or --request-id", ExitCode.USAGE)
    if sum((email is not None, token_file is not None, made_up)) > 1:
        raise Stop("one of --as, --token-file, or --roles with --user-id", ExitCode.USAGE)
    if request_id is None:
        _check_words(method or "", url or "", roles or "")
    snapshot = compiled(config, policies)
    if request_id is not None:
        _tell(_recorded(request_id, log), snapshot, as_json)
        return
    assert method is not None
    assert url is not None
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
    _tell(question, snapshot, as_json)


def _check_words(method: str, url: str, roles: str) -> None:
    """What could be in no request, or in no token, is a slip of whoever types."""
    if not _METHOD.fullmatch(method):
        raise Stop(f"{method!r} is no method such as GET", ExitCode.USAGE)
    if not (url.startswith("/") or _ABSOLUTE.match(url)):
        raise Stop(f"{url!r} is no URL: a path begins with /", ExitCode.USAGE)
    for role in filter(None, (name.strip() for name in roles.split(","))):
        if not ROLE.fullmatch(role):
            raise Stop(f"{role!r} can be no role; several are parted by commas", ExitCode.USAGE)


def _tell(question: Question, snapshot: Snapshot, as_json: bool) -> None:
    answer = ask(question, snapshot)
    decision = answer.decision
    status = status_of(decision, status_for)
    if answer.call is not None:
        told = explain(decision, answer.call, snapshot, question.clock.now)
        if decision.route is None and isinstance(question.who, Principal):
            told.caller = f"{describe(question.who, answer.call)} (not looked at: no route)"
    else:
        told = Explanation(f"denied: {decision.reason}, before any route is looked for", "anybody")
    turns = flips(question, answer, snapshot)
    if as_json:
        data(as_data(decision, status, told, turns))
    else:
        for text, style in as_text(decision, status, told, turns):
            say(text, style=style)
    if not decision.allowed:
        raise typer.Exit(ExitCode.NO)


def _recorded(request_id: str, log: Path | None) -> Question:
    """The call of the decision log with that id, to be judged by the configuration of now."""
    folder = log if log is not None else settings().data_dir / "decisions"
    if not folder.exists():
        hint = "" if log is not None else "; GATEWAY_DECISION_LOG writes it, --log names another"
        raise Stop(f"there is no decision log {folder}{hint}", ExitCode.USAGE)
    wanted = request_id.encode()
    for line in lines_of(folder):
        if wanted not in line:
            continue
        recorded = read_record(json.loads(line))
        if recorded is None or recorded.request_id != request_id:
            continue
        answered = "allowed" if recorded.allowed else f"denied with {recorded.reason}"
        remark(f"at {when(recorded.at)}, by version {recorded.version}, it was {answered}")
        return question_of(recorded)
    raise Stop(f"{folder} holds no decision with the id {request_id}")


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
