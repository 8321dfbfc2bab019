"""`gateway db upgrade|status|backup|verify|restore`: the schema, and the data in one file."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from gateway.app.data_dir import DataFolder
from gateway.app.setting_types import without_secrets
from gateway.app.settings import Settings
from gateway.cli.context import existing_database, unreachable
from gateway.cli.db_restore import refusals, restore
from gateway.cli.db_verify import verify
from gateway.cli.environment import settings
from gateway.cli.output import AsJson, CliError, ExitCode, record, warn
from gateway.identity.accounts.rekeying import rekey
from gateway.identity.key_derivation import KeyPurpose, derived_key
from gateway.model import SystemClock
from gateway.stores import backup
from gateway.stores.migrations import SchemaStatus, status, upgrade
from gateway.stores.open_database import open_database
from gateway.stores.protocols import Database, StoreUnavailable

T = TypeVar("T")


def register(app: typer.Typer) -> None:
    db = typer.Typer(no_args_is_help=True, help="The SQL store: its schema and its data.")
    db.command("upgrade")(bring_up)
    db.command("status")(show)
    db.command("backup")(keep)
    db.command("verify")(verify)
    db.command("restore")(restore)
    app.add_typer(db, name="db")


def bring_up(as_json: AsJson = False) -> None:
    """Bring the schema to what this version knows.  Several nodes may do so at once."""

    async def work(database: Database) -> tuple[str, ...]:
        applied = await upgrade(database)
        for left in await rekey(database):
            warn(str(left))
        return applied

    record({"applied": list(_with_database(work, make=True))}, as_json=as_json)


def show(as_json: AsJson = False) -> None:
    """Show which migrations have run, also those of a newer version; exit 1 when some have not."""

    async def work(database: Database) -> tuple[str, SchemaStatus]:
        return database.dialect, await status(database)

    dialect, schema = _with_database(work)
    record({"dialect": dialect, **asdict(schema)}, as_json=as_json)
    if schema.pending:
        raise CliError("run `gateway db upgrade`", ExitCode.NO)


def keep(
    file: Annotated[Path, typer.Argument(help="Where to write the backup (mode 0600).")],
    as_json: AsJson = False,
) -> None:
    """Write all data of one moment to a file; the gateway may go on running.

    The file holds password hashes and sealed keys: keep it as safe as the database.
    """

    chosen = settings()

    async def work(database: Database) -> int:
        await backup.whole_schema(database)
        secret = chosen.key_secret_bytes() or DataFolder(chosen.data_dir).key_secret(make=False)
        key = derived_key(secret, KeyPurpose.BACKUP)
        return await backup.write(database, file, key, version_of("authgate"))

    record({"file": str(file), "rows": _with_database(work)}, as_json=as_json)


def _with_database(work: Callable[[Database], Awaitable[T]], *, make: bool = False) -> T:
    """The SQL store as it is: its schema is not brought up to date first.  With `make` the
    installation need not be there yet, and its data folder is made too."""
    chosen = settings()

    async def whole() -> T:
        if make:
            _make_installation(chosen)
            database = open_database(chosen.database_url)
        else:
            database = existing_database(chosen, SystemClock())
        try:
            return await work(database)
        finally:
            await database.close()

    try:
        return refusals(lambda: asyncio.run(whole()))
    except StoreUnavailable as error:
        raise unreachable(error, chosen) from error


def _make_installation(chosen: Settings) -> None:
    """What other commands look for: the data folder and, where it keeps one, the secret."""
    if chosen.key_secret is None:
        folder = DataFolder(chosen.data_dir)
        folder.make()
        folder.key_secret()
    warn(f"database: {without_secrets(chosen.database_url)}")
