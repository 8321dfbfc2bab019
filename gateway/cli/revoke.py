"""`gateway revoke user|session|token|client|key`: refuse what has been given out.

Each returns once every live worker has it, and ends with 3 where that could not be confirmed;
the revocation is kept then, and goes on by itself.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated

import typer

from gateway.audit.log import AuditKind
from gateway.cli.account_names import account_of, named
from gateway.cli.configuration_files import CONFIG, POLICIES, ConfigPath, PoliciesPath
from gateway.cli.context import TAKES_DASHED_IDS, CommandContext, run
from gateway.cli.issuer_names import ExternalId, external_session, external_user
from gateway.cli.keys import revoke_key
from gateway.cli.output import CliError, echo
from gateway.cli.revocable_ids import Unknown, check_no_credential, checked_id
from gateway.identity.accounts.accounts import Accounts
from gateway.identity.clients.api_keys import ApiKeys
from gateway.identity.clients.clients import Clients
from gateway.identity.clients.key_form import key_in
from gateway.identity.clients.personal_keys import PersonalKeys
from gateway.identity.issuers.ends import record_ends
from gateway.identity.issuers.event_tokens import ReportedEnd
from gateway.identity.revocations import refuse
from gateway.identity.sessions.sessions import Sessions
from gateway.model import Change, ChangeKind

_OPERATOR = "operator"
Whom = Annotated[
    str,
    typer.Argument(
        metavar="EMAIL", help="The address of the account or its user_id; or NAME:sub of an issuer."
    ),
]
Sid = Annotated[
    str,
    typer.Argument(
        metavar="ID", help="As the claim in the token names it; or NAME:sid of an issuer."
    ),
]
Jti = Annotated[
    str,
    typer.Argument(
        metavar="ID", help="As the claim in the token names it; the id of an API key, or its text."
    ),
]
ClientName = Annotated[
    str, typer.Argument(metavar="ID", help="The `client_id` of the client, or its name.")
]


def register(app: typer.Typer) -> None:
    revoke = typer.Typer(no_args_is_help=True, help="Refuse what has been given out, at once.")
    revoke.command("user")(user)
    revoke.command("session", context_settings=TAKES_DASHED_IDS)(session)
    revoke.command("token", context_settings=TAKES_DASHED_IDS)(token)
    revoke.command("client", context_settings=TAKES_DASHED_IDS)(client)
    revoke.command("key", context_settings=TAKES_DASHED_IDS)(key)
    app.add_typer(revoke, name="revoke")


def user(email: Whom, config: ConfigPath = CONFIG, policies: PoliciesPath = POLICIES) -> None:
    """End every session, personal key and mailed link of an account; refuse its tokens.

    NAME:sub refuses the tokens of a user of the issuer NAME of the configuration.
    """
    external = external_user(email, config, policies)
    if external is not None:
        check_no_credential("user", external.id)

    async def changes(context: CommandContext) -> Sequence[Change]:
        if external is not None:
            found.append(email)
            return await _end_external(context, external, ReportedEnd(_OPERATOR, external.id))
        account = await account_of(context, email)
        found.append(named(account))
        return await Accounts(context.database).end_all(account.id, _OPERATOR)

    found: list[str] = []
    _published(changes, found)


def session(
    name: Sid,
    unknown: Unknown = False,
    config: ConfigPath = CONFIG,
    policies: PoliciesPath = POLICIES,
) -> None:
    """End a session; its `sid` is refused even where no account here had it.

    NAME:sid is a session of the issuer NAME of the configuration.
    """
    external = external_session(name, config, policies)
    if external is None:
        checked_id("session", name, unknown=unknown)
    else:
        check_no_credential("session", external.id)

    async def changes(context: CommandContext) -> Sequence[Change]:
        if external is not None:
            found.append(name)
            end = ReportedEnd(_OPERATOR, session_id=external.id)
            return await _end_external(context, external, end)
        ended = await Sessions(context.database).end(name, _OPERATOR)
        if ended is not None:
            return ended
        found.append("no session of this id is known here; its id is refused all the same")
        return await refuse(context.database, ChangeKind.SESSION, name)

    found: list[str] = []
    _published(changes, found)


def token(name: Jti, unknown: Unknown = False) -> None:
    """Refuse one token, by its `jti`, or an API key, by its id or its whole text."""
    whole_key = key_in(name)
    if whole_key is None:
        checked_id("token", name, unknown=unknown)

    async def changes(context: CommandContext) -> Sequence[Change]:
        for keys in (ApiKeys(context.database), PersonalKeys(context.database)):
            key_id = name if whole_key is None else await keys.id_of(whole_key)
            if key_id is not None and (ended := await keys.end(key_id)) is not None:
                found.append(f"the API key {key_id}")
                return ended
        if whole_key is not None:
            raise CliError(
                "there is no API key of this text; `gateway clients keys NAME` and `gateway users"
                " keys EMAIL` show those there are"
            )
        found.append("no API key has this id; a token that has it is refused")
        return await refuse(context.database, ChangeKind.TOKEN, name)

    found: list[str] = []
    _published(changes, found)


def client(name: ClientName, unknown: Unknown = False) -> None:
    """Refuse every token and API key that a client has been given so far."""
    checked_id("client", name, unknown=unknown)

    async def changes(context: CommandContext) -> Sequence[Change]:
        clients = Clients(context.database)
        ended = await clients.revoke(name)
        if ended is None and (named := await clients.find(name)) is not None:
            found.append(f"{named.name} ({named.id})")
            ended = await clients.revoke(named.id)
        if ended is not None:
            return ended
        if not unknown:
            raise CliError(
                "there is no such client; `gateway clients list` shows them (--unknown refuses"
                " a `client_id` that only tokens of an imported key carry)"
            )
        found.append("no client of this id is known here; its id is refused all the same")
        return await refuse(context.database, ChangeKind.CLIENT, name)

    found: list[str] = []
    _published(changes, found)


def key(
    kid: Annotated[str, typer.Argument(metavar="KID", help="The id of the signing key.")],
) -> None:
    """Refuse every token that a key signed, and let the next key sign."""

    async def work(context: CommandContext) -> None:
        revoked = await revoke_key(context, kid)
        if not revoked.confirmed:
            raise context.unconfirmed()

    run(work)
    echo("revoked")


async def _end_external(
    context: CommandContext, external: ExternalId, end: ReportedEnd
) -> Sequence[Change]:
    issuer = external.issuer
    async with context.database.transaction() as tx:
        # The issuer's clock dates its tokens, and may be so far ahead.
        not_before = int(await tx.now()) + issuer.leeway_s
        return await record_ends(tx, issuer.name, [end], not_before)


def _published(
    changes: Callable[[CommandContext], Awaitable[Sequence[Change]]], whose: Sequence[str] = ()
) -> None:
    """`whose` says, once it is known, whom or what the changes are about."""

    async def work(context: CommandContext) -> None:
        found = await changes(context)
        for change in found:
            context.tell(AuditKind.REVOKED, None, str(change.kind), target=change.target)
        await context.publish(found)

    run(work)
    echo(": ".join(["revoked", *whose]))
