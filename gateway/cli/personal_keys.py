"""`gateway users keys EMAIL [list|end ID]`: the keys that people made for programs of their own."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated

import typer

from gateway.audit.log import AuditKind
from gateway.cli.account_names import Email, account_of
from gateway.cli.context import CommandContext, run
from gateway.cli.output import AsJson, CliError, ExitCode, echo, table, when
from gateway.identity.clients.personal_keys import PersonalKey, PersonalKeys, described

TIMES = ("created_at", "expires_at", "last_used_at")


class KeyAction(StrEnum):
    LIST = "list"
    END = "end"


def keys(
    email: Email,
    action: Annotated[KeyAction, typer.Argument(help="What to do.")] = KeyAction.LIST,
    key_id: Annotated[str, typer.Argument(metavar="ID", help="With end: the key.")] = "",
    as_json: AsJson = False,
) -> None:
    """List the personal keys of an account, or end one: then no worker accepts it any more."""
    if (action is KeyAction.END) != bool(key_id):
        raise CliError("`gateway users keys EMAIL end ID` ends a key", ExitCode.USAGE)
    if action is KeyAction.END:
        run(lambda context: _end(context, email, key_id))
        echo("ended")
        return

    async def work(context: CommandContext) -> Sequence[PersonalKey]:
        account = await account_of(context, email)
        return await PersonalKeys(context.database).find_active(account.id)

    rows = [described(key) for key in run(work)]
    if not as_json:
        for row in rows:
            row |= {name: when(row[name]) for name in TIMES}
    columns = ["key_id", "name", "roles", "scopes", "routes", *TIMES]
    table(rows, columns, as_json=as_json)


async def end_key(context: CommandContext, key_id: str, *, owner: str | None = None) -> bool:
    """False where there is no such key, or it is not `owner`'s."""
    changes = await PersonalKeys(context.database).end(key_id, owner=owner)
    if changes is None:
        return False
    context.tell(AuditKind.PERSONAL_KEY_ENDED, owner, "ended", key_id=key_id)
    await context.publish(changes)
    return True


async def _end(context: CommandContext, email: str, key_id: str) -> None:
    account = await account_of(context, email)
    if not await end_key(context, key_id, owner=account.id):
        raise CliError("the account has no key with this id; `gateway users keys EMAIL` shows them")
