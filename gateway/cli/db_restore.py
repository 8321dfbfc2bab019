"""`gateway db restore`: a backup in the place of all data, and what has ended since stays ended."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, BinaryIO, TypeVar

import typer

from gateway.access.snapshot import Snapshot
from gateway.app.data_dir import FolderError
from gateway.audit.chain import ChainKey, cuts
from gateway.audit.log import AuditEvent, AuditKind
from gateway.cli.configuration_files import CONFIG, POLICIES, ConfigPath, PoliciesPath
from gateway.cli.configurations import read
from gateway.cli.context import CommandContext, run, user_name
from gateway.cli.keys import secret_of
from gateway.cli.output import AsJson, CliError, ExitCode, record, warn, when
from gateway.identity.factors.restored import carry_factors, held_factors
from gateway.identity.key_derivation import KeyPurpose, derived_key
from gateway.identity.keys.encryption import Sealer
from gateway.identity.keys.jwk import Alg
from gateway.identity.keys.signing_keys import made_key, readable_chain_keys
from gateway.identity.sessions import restore as restoring
from gateway.stores import backup
from gateway.stores.migrations import SchemaProblem
from gateway.stores.protocols import Transaction

T = TypeVar("T")

SecretFile = Annotated[
    Path | None,
    typer.Option(
        "--secret-file",
        help="Holds the GATEWAY_KEY_SECRET of when the backup was written, where it is another"
        " now.",
    ),
]


def restore(
    file: Annotated[Path, typer.Argument(help="A file that `gateway db backup` wrote.")],
    secret_file: SecretFile = None,
    config: ConfigPath = CONFIG,
    policies: PoliciesPath = POLICIES,
    as_json: AsJson = False,
) -> None:
    """Put a backup in the place of all data, of either kind of SQL store.

    Every session and API key ends, every token given so far is refused, the signing keys are
    replaced, and what was ended since the backup stays ended: a backup brings nothing back that
    was signed out, revoked, disabled, deleted or replaced.  Roles that providers gave come back
    with the next sign-in by each; those by which the configuration only refuses stay.
    """
    barring = _barring_roles(config, policies)
    given = given_secret(secret_file)

    async def work(context: CommandContext) -> dict[str, Any]:
        with opened_file(file) as opened:
            return await _restored(context, opened, given or context.key_secret, barring)

    fields = refusals(lambda: run(work))
    record({"file": str(file), **fields, "sessions": "ended"}, as_json=as_json)
    warn("every session has ended: everybody signs in again")
    if count := fields["ended again"].get("provider_roles"):
        roles = "1 role that a provider" if count == 1 else f"{count} roles that providers"
        warn(f"{roles} gave: back with the next sign-in by the provider")


def _barring_roles(config: Path, policies: Path) -> frozenset[str]:
    """Roles that only keep their bearer away.  A machine that has the stores alone has no
    configuration, and restores nevertheless."""
    try:
        found = read(config, policies) if config.exists() else None
    except OSError as error:
        why = f"{error.filename} cannot be read ({error.strerror})"
    else:
        if isinstance(found, Snapshot):
            return found.barring_roles
        why = f"there is no configuration at {config} (--config)"
        if found is not None:
            why = f"the configuration is not valid ({found[0]})"
    warn(
        f"{why}: which roles only keep somebody away is not known, and of those that a provider"
        " gave none stays until the next sign-in by it"
    )
    return frozenset()


async def _restored(
    context: CommandContext, file: BinaryIO, secret_then: bytes, barring: frozenset[str]
) -> dict[str, Any]:
    key = derived_key(secret_then, KeyPurpose.BACKUP)
    contents = await backup.check(context.database, file, key)
    alg = Alg(context.settings.signing_alg)
    keys = (await asyncio.to_thread(made_key, alg), await asyncio.to_thread(made_key, alg))
    secrets = restoring.Secrets(
        now=Sealer(context.key_secret),
        then=Sealer(secret_then),
        chain_key_then=derived_key(secret_then, KeyPurpose.AUDIT_CHAIN),
    )
    async with context.database.migration_transaction(backup.RESTORE_TIMEOUT_S) as tx:
        before = await restoring.present(tx, secrets.now, barring)
        factors = await held_factors(tx)
        kept = await _has_event(tx, contents.newest_audit, context.key_secret)
        rows = await backup.replace(tx, file, key)
        carried, changes = await restoring.revoke_all(tx, before, secrets, keys)
        ended_factors = await carry_factors(tx, factors, secrets.then, secrets.now)
        restored_at_ms = int(await tx.now() * 1000)
    context.audit.record(
        AuditEvent(
            AuditKind.RESTORED,
            actor=f"cli:{user_name()}",
            detail={
                "backup_at_ms": contents.at_ms,
                "restored_at_ms": restored_at_ms,
                "lost_rows": not kept,
            },
        )
    )
    await context.publish(changes)
    ended_again = {**asdict(carried), "factors": ended_factors}
    return {
        "rows": rows,
        "written": when(contents.at_ms / 1000),
        "ended again": {name: count for name, count in ended_again.items() if count},
    }


async def _has_event(tx: Transaction, event: tuple[str, int] | None, secret: bytes) -> bool:
    """Whether the database still has what the backup has of the audit log, or has pruned it; else
    it was lost, and all that was written after the backup with it."""
    if event is None:
        return True
    keys = [derived_key(secret, KeyPurpose.AUDIT_CHAIN)]
    keys += await readable_chain_keys(tx, Sealer(secret))
    cut = (await cuts(tx, {key.id: key for key in map(ChainKey, keys)})).get(event[0])
    if cut is not None and event[1] <= cut.position:
        return True
    row = await tx.one(
        "SELECT 1 FROM audit_events WHERE writer = :writer AND position = :position",
        writer=event[0],
        position=event[1],
    )
    return row is not None


def given_secret(file: Path | None) -> bytes | None:
    return None if file is None else secret_of(refusals(lambda: file.read_text("utf-8")))


def opened_file(file: Path) -> BinaryIO:
    """Read twice, and so no pipe; a link is not followed, as whoever may write to the folder
    could lead it elsewhere between the two."""
    # To open a pipe would wait for its writer.
    descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ValueError(f"{file} is no file")
    return os.fdopen(descriptor, "rb")


def refusals(work: Callable[[], T]) -> T:
    """What cannot be done is one line, with the exit code of its kind."""
    try:
        return work()
    except (backup.BackupRefused, SchemaProblem) as error:
        raise CliError(str(error), ExitCode.NO) from error
    except FolderError as error:
        raise CliError(str(error), ExitCode.USAGE) from error
    except OSError as error:
        raise CliError(f"{error.filename}: {error.strerror}", ExitCode.USAGE) from error
    except ValueError as error:
        raise CliError(str(error), ExitCode.USAGE) from error
