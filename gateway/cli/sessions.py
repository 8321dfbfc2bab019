"""`gateway sessions list|end`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer

from gateway.audit.log import AuditKind
from gateway.cli.account_names import Email, account_of
from gateway.cli.context import TAKES_DASHED_IDS, CommandContext, run
from gateway.cli.output import AsJson, CliError, echo, table, when
from gateway.cli.personal_keys import end_key
from gateway.identity.clients.personal_keys import PersonalKeys, described
from gateway.identity.sessions.sessions import Sessions


def register(app: typer.Typer) -> None:
    sessions = typer.Typer(no_args_is_help=True, help="Sessions: one for each sign-in.")
    sessions.command("list")(show)
    sessions.command("end", context_settings=TAKES_DASHED_IDS)(end)
    app.add_typer(sessions, name="sessions")


def show(email: Email, as_json: AsJson = False) -> None:
    """List the live sessions of an account, and its personal keys."""

    async def work(context: CommandContext) -> list[dict[str, Any]]:
        account = await account_of(context, email)
        sessions = Sessions(context.database, idle_s=context.settings.refresh_idle_s)
        keys = await PersonalKeys(context.database).find_active(account.id)
        return [
            *({"kind": "session", **asdict(one)} for one in await sessions.find_active(account.id)),
            *({"kind": "key", "id": key.id, **described(key)} for key in keys),
        ]

    rows = run(work)
    if not as_json:
        for row in rows:
            for name in ("created_at", "last_used_at", "expires_at"):
                row[name] = when(row[name])
            row.setdefault("user_agent", row.get("name"))
    columns = ["kind", "id", "created_at", "last_used_at", "expires_at", "address", "user_agent"]
    table(rows, columns, as_json=as_json)


def end(
    session_id: Annotated[str, typer.Argument(metavar="SID", help="The id of the session.")],
) -> None:
    """End a session, or a personal key; returns when no worker accepts it any more."""

    async def work(context: CommandContext) -> None:
        if await end_key(context, session_id):
            return
        changes = await Sessions(context.database).end(session_id, "operator")
        if changes is None and "@" in session_id:
            raise CliError(
                "an id of a session is asked for; `gateway revoke user EMAIL` ends every session"
                " of an account, `gateway sessions list EMAIL` shows them"
            )
        if changes is None:
            raise CliError("there is no session with this id; `gateway sessions list` shows them")
        context.tell(AuditKind.SESSION_ENDED, None, "ended", sid=session_id)
        await context.publish(changes)

    run(work)
    echo("ended")
