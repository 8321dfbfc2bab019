"""`gateway db verify`: whether a backup can be relied upon, asked of the file alone.

It is read as a restore reads it, and put into a database of its own that is thrown away: what
arrives there would arrive in PostgreSQL too, and its audit log is verified as that of an
installation is.
"""

from __future__ import annotations

import asyncio
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import typer

from gateway.app.data_dir import DataFolder
from gateway.audit import chain, verification
from gateway.cli.context import end_in_order
from gateway.cli.db_restore import SecretFile, given_secret, opened_file, refusals
from gateway.cli.environment import settings
from gateway.cli.output import AsJson, CliError, ExitCode, data, echo, record, warn, when
from gateway.identity.key_derivation import KeyPurpose, derived_key
from gateway.identity.keys.encryption import Sealer
from gateway.identity.keys.signing_keys import readable_chain_keys
from gateway.model import SystemClock
from gateway.stores import backup
from gateway.stores.migrations import upgrade
from gateway.stores.open_database import open_database
from gateway.stores.protocols import StoreUnavailable

_SHOWN_PROBLEMS = 20
_AHEAD_S = 60


def verify(
    file: Annotated[Path, typer.Argument(help="A file that `gateway db backup` wrote.")],
    secret_file: SecretFile = None,
    as_json: AsJson = False,
) -> None:
    """Check a backup without a database: that it is whole and unchanged, who wrote it and when,
    what it holds, that it goes into a database, and its audit log; exit 1 where it cannot be
    relied upon.

    Needs the GATEWAY_KEY_SECRET of when it was written, and as much room in TMPDIR as the file has.
    """
    given = given_secret(secret_file)
    secret = given if given is not None else refusals(_own_secret)

    async def work() -> tuple[backup.Contents, verification.Verification]:
        end_in_order()
        with opened_file(file) as opened:
            contents = backup.read_through(opened, derived_key(secret, KeyPurpose.BACKUP))
            return contents, await _rehearsed(opened, secret)

    try:
        contents, audit = refusals(lambda: asyncio.run(work()))
    except asyncio.CancelledError as ended:
        raise CliError("ended by a signal: nothing is known of the backup") from ended
    except StoreUnavailable as error:
        raise CliError(
            f"the backup could not be tried in a database below {tempfile.gettempdir()}"
            f" ({error.detail}): TMPDIR names another folder",
            ExitCode.UNREACHABLE,
        ) from error
    _tell(file, contents, audit, as_json=as_json)
    if audit.problems:
        raise CliError(f"the audit log in it was changed: {len(audit.problems)} problems")


def _own_secret() -> bytes:
    chosen = settings()
    return chosen.key_secret_bytes() or DataFolder(chosen.data_dir).key_secret(make=False)


async def _rehearsed(file: BinaryIO, secret: bytes) -> verification.Verification:
    """Restores the file into a new database; what the audit log in it is worth."""
    with tempfile.TemporaryDirectory(prefix="authgate-verify-") as folder:
        database = open_database(f"sqlite:///{folder}/gateway.db")
        try:
            await upgrade(database)
            async with database.migration_transaction(backup.RESTORE_TIMEOUT_S) as tx:
                await backup.replace(tx, file, derived_key(secret, KeyPurpose.BACKUP))
                before = await readable_chain_keys(tx, Sealer(secret))
            keys = (derived_key(secret, KeyPurpose.AUDIT_CHAIN), *before)
            return await verification.verify(database, map(chain.ChainKey, keys))
        finally:
            await database.close()


def _tell(
    file: Path, contents: backup.Contents, audit: verification.Verification, *, as_json: bool
) -> None:
    age_s = SystemClock().now() - contents.at_ms / 1000
    fields: dict[str, Any] = {
        "file": str(file),
        "written": when(contents.at_ms / 1000),
        "age": _age(age_s),
        "release": contents.release,
        "schema": contents.newest_migration,
        "dialect": contents.dialect,
        "rows": contents.rows,
        "not_into": f"a version that lacks {contents.newest_migration}; an installation with"
        " another GATEWAY_KEY_SECRET, unless --secret-file names the one of then",
    }
    if as_json:
        more = {"age_s": int(age_s), "tables": contents.tables, "audit": asdict(audit)}
        data(fields | more)
    else:
        of_log = f"{audit.events} events of {audit.writers} writers"
        good = of_log if audit.problems else f"{of_log}, unchanged"
        named = ", ".join(f"{name} {rows}" for name, rows in contents.tables.items())
        record(fields | {"tables": named, "audit_log": good}, as_json=False)
        for problem in audit.problems[:_SHOWN_PROBLEMS]:
            echo(problem)
        for note in audit.notes:
            warn(note)
    if age_s < -_AHEAD_S:
        warn("it was written in the future, by the clock of this machine: one of the two is wrong")


def _age(seconds: float) -> str:
    minutes = int(max(seconds, 0)) // 60
    if minutes < 120:
        return f"{minutes} minutes"
    hours = minutes // 60
    return f"{hours} hours" if hours < 48 else f"{hours // 24} days"
