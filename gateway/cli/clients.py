"""`gateway clients create|list|rotate|key|keys|end-key|delete`: machine clients and API keys."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.audit.log import AuditKind
from gateway.cli.context import CommandContext, run
from gateway.cli.output import (
    AsJson,
    CliError,
    ExitCode,
    confirm_erasing,
    echo,
    record,
    table,
    warn,
    when,
)
from gateway.identity.clients.api_keys import ApiKey, ApiKeys, NewApiKey
from gateway.identity.clients.clients import Client, Clients, NewSecret
from gateway.identity.clients.key_form import is_personal, key_in
from gateway.identity.keys.jwk import KeyRefused, VerifyingKey, read_pem, verifying

Name = Annotated[str, typer.Argument(metavar="NAME", help="The name of the client, or its id.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
_DAY_S = 86_400
_LONGEST_DAYS = 3_650
_DAYS = 365


def register(app: typer.Typer) -> None:
    clients = typer.Typer(
        no_args_is_help=True, help="Machine clients (OAuth 2.0 client credentials) and API keys."
    )
    clients.command("create")(create)
    clients.command("list")(show_all)
    clients.command("rotate")(rotate)
    clients.command("key")(key)
    clients.command("keys")(keys)
    clients.command("end-key")(revoke_key)
    clients.command("delete")(delete)
    app.add_typer(clients, name="clients")


def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="1 to 128 of A-Z a-z 0-9 . _ : @ -")],
    role: Annotated[
        list[str] | None, typer.Option("--role", help="A role; may be repeated.")
    ] = None,
    public_key: Annotated[
        list[Path] | None,
        typer.Option(
            "--public-key",
            metavar="PEM",
            exists=True,
            dir_okay=False,
            help="A public key that the client signs assertions with (private_key_jwt); may be"
            " repeated.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a client and print its id and secret, once.

    With --public-key it has no secret: it signs assertions with its own key.
    """
    trusted = [_public_key(path) for path in public_key or []]

    async def work(context: CommandContext) -> NewSecret | str | None:
        clients = Clients(context.database)
        made: NewSecret | str | None
        if trusted:
            made = await clients.create_by_key(name, role or [], trusted)
        else:
            made = await clients.create(name, role or [])
        if made is not None:
            client_id = made if isinstance(made, str) else made.client_id
            context.tell(AuditKind.CLIENT_CHANGED, client_id, "created", name=name)
        return made

    made = run(work)
    if made is None:
        raise CliError("there is a client with this name already")
    if isinstance(made, str):
        record({"client_id": made}, as_json=as_json)
    else:
        _show_secret(made, as_json=as_json)


def show_all(as_json: AsJson = False) -> None:
    """List the clients by name."""

    async def work(context: CommandContext) -> list[Client]:
        return await Clients(context.database).list()

    rows: list[dict[str, Any]] = [
        {
            "name": client.name,
            "client_id": client.id,
            "roles": list(client.roles),
            "secrets": len(client.secret_hashes),
            "public_keys": [key.kid for key in client.public_keys],
            "created_at": _time(client.created_at, as_json),
            "last_used_at": _time(client.last_used_at, as_json),
        }
        for client in run(work)
    ]
    columns = ["name", "client_id", "roles", "secrets", "created_at", "last_used_at"]
    table(rows, columns, as_json=as_json)


def rotate(
    name: Name,
    at_once: Annotated[
        bool,
        typer.Option(
            "--at-once",
            help="The secret has leaked: end every older one and every token now.  Without it"
            " the one before stays good until the next rotation.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Print a new secret, once."""

    async def work(context: CommandContext) -> NewSecret:
        clients = Clients(context.database)
        rotated = await clients.rotate((await client_of(context, name)).id, at_once=at_once)
        if rotated is None:
            raise _no_client()
        change = "secret rotated at once" if at_once else "secret rotated"
        context.tell(AuditKind.CLIENT_CHANGED, rotated[0].client_id, change)
        # Printed first: the secret is kept whether or not every worker has confirmed.
        _show_secret(rotated[0], as_json=as_json)
        await context.publish(rotated[1])
        return rotated[0]

    run(work)


def key(
    name: Name,
    role: Annotated[
        list[str] | None,
        typer.Option("--role", help="A role of the client; without it the key has them all."),
    ] = None,
    scope: Annotated[
        list[str] | None,
        typer.Option("--scope", help="An action, such as orders:read; without it any."),
    ] = None,
    days: Annotated[
        int,
        typer.Option("--days", min=0, max=_LONGEST_DAYS, help="Its life; 0 for one without end."),
    ] = _DAYS,
    as_json: AsJson = False,
) -> None:
    """Make an API key and print it, once."""

    async def work(context: CommandContext) -> NewApiKey | None:
        client = await client_of(context, name)
        made = await ApiKeys(context.database).create(
            client.id, roles=role, scopes=scope, life_s=days * _DAY_S if days else None
        )
        if made is not None:
            context.tell(AuditKind.CLIENT_CHANGED, client.id, "key made", key_id=made.id)
        return made

    made = run(work)
    if made is None:
        raise _no_client()
    fields = {
        "key_id": made.id,
        "api_key": made.text,
        "expires_at": _time(made.expires_at, as_json),
    }
    record(fields, as_json=as_json)
    warn("the key is shown only now")


def keys(name: Name, as_json: AsJson = False) -> None:
    """List the API keys of a client."""

    async def work(context: CommandContext) -> list[ApiKey]:
        return await ApiKeys(context.database).of_client((await client_of(context, name)).id)

    rows: list[dict[str, Any]] = [
        {
            "key_id": found.id,
            "roles": None if found.roles is None else list(found.roles),
            "scopes": None if found.scopes is None else list(found.scopes),
            "created_at": _time(found.created_at, as_json),
            "expires_at": _time(found.expires_at, as_json),
            "ended_at": _time(found.ended_at, as_json),
            "last_used_at": _time(found.last_used_at, as_json),
        }
        for found in run(work)
    ]
    columns = ["key_id", "roles", "scopes", "created_at", "expires_at", "ended_at", "last_used_at"]
    table(rows, columns, as_json=as_json)


def revoke_key(
    key_id: Annotated[
        str, typer.Argument(metavar="KEY_ID", help="As `clients keys` lists it, or the whole key.")
    ],
) -> None:
    """End an API key; returns when every live worker refuses it."""
    whole_key = key_in(key_id)
    if whole_key is not None and is_personal(whole_key):
        raise CliError("this is a key of a person, and no client's; `gateway revoke token` ends it")

    async def work(context: CommandContext) -> None:
        api_keys = ApiKeys(context.database)
        ended = key_id if whole_key is None else await api_keys.id_of(whole_key)
        changes = None if ended is None else await api_keys.end(ended)
        if changes is None:
            raise CliError("there is no key with this id; `gateway clients keys NAME` shows them")
        context.tell(AuditKind.REVOKED, None, "key ended", key_id=ended or "")
        await context.publish(changes)

    run(work)
    echo("ended")


def delete(name: Name, yes: Yes = False) -> None:
    """Erase a client: its secrets, keys and tokens end."""
    confirm_erasing(name, yes=yes)

    async def work(context: CommandContext) -> None:
        client = await client_of(context, name)
        changes = await Clients(context.database).delete(client.id) or []
        context.tell(AuditKind.CLIENT_CHANGED, client.id, "deleted", name=client.name)
        await context.publish(changes)

    run(work)
    echo("deleted")


async def client_of(context: CommandContext, name: str) -> Client:
    """The client; CliError (exit 1) where there is none."""
    client = await Clients(context.database).find(name)
    if client is None:
        raise _no_client()
    return client


def _no_client() -> CliError:
    return CliError("there is no such client; `gateway clients list` shows them")


def _show_secret(made: NewSecret, *, as_json: bool) -> None:
    fields = {"client_id": made.client_id, "client_secret": made.client_secret}
    record(fields, as_json=as_json)
    warn("the secret is shown only now")


def _public_key(path: Path) -> VerifyingKey:
    try:
        return verifying(read_pem(path.read_bytes()).public)
    except KeyRefused as refused:
        raise CliError(f"{path}: {refused}", ExitCode.USAGE) from refused
    except OSError as error:
        raise CliError(f"{path}: {error.strerror}", ExitCode.USAGE) from error


def _time(seconds: int | None, as_json: bool) -> int | str | None:
    return seconds if as_json else when(seconds)
