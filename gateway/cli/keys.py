"""`gateway keys list|rotate|import|reseal|secret`, and what `gateway revoke key` does."""

from __future__ import annotations

import base64
import os
import secrets
import sys
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from gateway.app.data_dir import DataFolder
from gateway.app.settings import SettingsError, load
from gateway.audit.log import AuditKind
from gateway.cli.context import CommandContext, run
from gateway.cli.output import AsJson, CliError, ExitCode, data, echo, record, table, warn, when
from gateway.identity.factors.totp import reseal_totp
from gateway.identity.key_derivation import KeyPurpose, derived_key
from gateway.identity.keys.encryption import SECRET_BYTES, Sealer
from gateway.identity.keys.jwk import KeyRefused
from gateway.identity.keys.rotation import (
    ImportedKey,
    KeyRotation,
    RevokedKey,
    RotatedKey,
    ScheduledRotation,
)
from gateway.identity.keys.signing_keys import KeyRow, WrongSecret, reseal

T = TypeVar("T")


def register(app: typer.Typer) -> None:
    keys = typer.Typer(no_args_is_help=True, help="Signing keys: what signs and verifies tokens.")
    keys.command("list")(show)
    keys.command("rotate")(rotate)
    keys.command("import")(bring_in_key)
    keys.command("reseal")(reseal_all)
    keys.command("secret")(secret)
    app.add_typer(keys, name="keys")


def show(as_json: AsJson = False) -> None:
    """List the signing keys and what each does now."""

    async def work(context: CommandContext) -> list[KeyRow]:
        return await _rotation(context).listing()

    rows = [asdict(row) for row in _run(work)]
    if not as_json:
        for row in rows:
            for name in ("created_at", "activated_at", "retired_at", "gone_at", "usable_at"):
                row[name] = when(row[name])
            row["usable_at"] = row["usable_at"] or ("unconfirmed" if row["state"] == "next" else "")
    columns = ["kid", "alg", "state", "imported", "created_at", "usable_at", "gone_at"]
    table(rows, columns, as_json=as_json)


def rotate(as_json: AsJson = False) -> None:
    """Let the next key sign.  The old one verifies until its last token has expired.

    A next key may sign once everybody who keeps the JWKS must have asked again, 330 s after
    every worker knew it; before that the running gateway rotates by itself when it may.
    """

    async def work(context: CommandContext) -> tuple[RotatedKey | ScheduledRotation, CliError]:
        outcome = await _rotation(context).rotate(
            on_rotated=lambda rotated: context.tell(
                AuditKind.KEY_CHANGED, None, "rotated", kid=rotated.active
            )
        )
        return outcome, context.unconfirmed()

    outcome, unconfirmed = _run(work)
    if isinstance(outcome, RotatedKey):
        fields = {"state": "rotated", "active": outcome.active, "retiring": outcome.retiring}
        record(fields, as_json=as_json)
        if not outcome.confirmed:
            raise unconfirmed
        return
    record({"state": "scheduled", "in_s": outcome.wait_s}, as_json=as_json)
    if outcome.wait_s is None:
        raise CliError("the next key is not yet confirmed by every worker", ExitCode.UNREACHABLE)
    warn("nobody may still hold a JWKS without the next key; the gateway rotates then")


def bring_in_key(
    pem: Annotated[Path, typer.Argument(help="A PEM file; `-` reads standard input.")],
    verify_only: Annotated[
        bool,
        typer.Option("--verify-only", help="Keep the public half alone: it never signs here."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Bring in a key made elsewhere; prints its kid.

    With its private half it becomes the next key, which `gateway keys rotate` lets sign.
    """
    content = _content(pem)

    async def work(context: CommandContext) -> tuple[ImportedKey, CliError]:
        rotation = _rotation(context)
        await rotation.ensure()
        imported = await rotation.import_key(
            content,
            verify_only=verify_only,
            on_imported=lambda made: context.tell(
                AuditKind.KEY_CHANGED, None, f"imported as {made.state}", kid=made.kid
            ),
        )
        return imported, context.unconfirmed()

    try:
        outcome, unconfirmed = _run(work)
    except KeyRefused as refused:
        raise CliError(str(refused)) from refused
    if outcome.warning:
        warn(f"warning: {outcome.warning}")
    if as_json:
        data({"kid": outcome.kid, "state": outcome.state, "warning": outcome.warning})
    else:
        echo(outcome.kid)
    if not outcome.confirmed:
        raise unconfirmed


def reseal_all(
    new_secret_file: Annotated[
        Path | None,
        typer.Option(
            "--new-secret-file",
            help="Holds the new secret; `-` reads standard input.  Not given where the data"
            " folder keeps the secret: a new one is then made and kept there.",
        ),
    ] = None,
) -> None:
    """Seal the private keys, and the secrets of second factors, under a new secret: all or none.

    Running gateways must be started anew with it: until then they verify and sign, but make
    no new key, and take no code of an authenticator app.
    """
    given = None if new_secret_file is None else secret_of(_text(new_secret_file))

    async def work(context: CommandContext) -> int:
        kept_here = context.settings.key_secret is None
        if given is None and not kept_here:
            raise CliError("GATEWAY_KEY_SECRET is set: give --new-secret-file", ExitCode.USAGE)
        aside = _set_aside(context.folder, given) if kept_here else None
        new = secret_of(aside.read_text()) if aside else given
        assert new is not None
        chain_key = derived_key(context.key_secret, KeyPurpose.AUDIT_CHAIN)
        old_sealer, new_sealer = Sealer(context.key_secret), Sealer(new)
        count = await reseal(
            context.database,
            old_sealer,
            new_sealer,
            chain_key,
            beside=lambda tx: reseal_totp(tx, old_sealer, new_sealer),
        )
        context.tell(AuditKind.KEY_CHANGED, None, "resealed", keys=str(count))
        if aside is not None:
            os.replace(aside, context.folder.path / "key-secret")
            warn("the data folder keeps the new secret")
        else:
            warn("GATEWAY_KEY_SECRET must now be the new secret")
        if context.running:
            warn("restart the running gateways")
        return count

    count = _run(work)
    echo(f"{count} private {'key' if count == 1 else 'keys'} resealed")


def secret() -> None:
    """Print a new secret for GATEWAY_KEY_SECRET: 32 random bytes in base64."""
    echo(base64.b64encode(os.urandom(SECRET_BYTES)).decode())


async def revoke_key(context: CommandContext, kid: str) -> RevokedKey:
    """What `gateway revoke key KID` does, and tells the audit log.  CliError (exit 1) for an
    unknown kid; the caller reports `confirmed`: False is exit 3."""
    try:
        outcome = await _rotation(context).revoke(
            kid, on_revoked=lambda _: context.tell(AuditKind.KEY_CHANGED, None, "revoked", kid=kid)
        )
    except WrongSecret as error:
        raise CliError(str(error), ExitCode.USAGE) from error
    if outcome is None:
        raise CliError("there is no key with this kid; `gateway keys list` shows them")
    return outcome


def _rotation(context: CommandContext) -> KeyRotation:
    return KeyRotation(
        context.database,
        Sealer(context.key_secret),
        context.publisher,
        alg=context.settings.signing_alg,
        max_token_life_s=context.settings.max_token_life_s,
    )


def _run(work: Callable[[CommandContext], Awaitable[T]]) -> T:
    try:
        return run(work)
    except WrongSecret as error:
        raise CliError(str(error), ExitCode.USAGE) from error


def _content(path: Path) -> bytes:
    try:
        return sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
    except OSError as error:
        raise CliError(f"{path}: {error.strerror}", ExitCode.USAGE) from error


def _text(path: Path) -> str:
    """What is no text is no secret either, and is told so as one."""
    return _content(path).decode("utf-8", "replace")


def secret_of(text: str) -> bytes:
    """Judged as the setting would be."""
    try:
        found = load({"GATEWAY_KEY_SECRET": text.strip()}, env_file=None).key_secret_bytes()
    except SettingsError as error:
        raise CliError(str(error), ExitCode.USAGE) from error
    if found is None:
        raise CliError("the secret is empty", ExitCode.USAGE)
    return found


def _set_aside(folder: DataFolder, given: bytes | None) -> Path:
    """The new secret, on the disk before SQL needs it: were this process killed between the
    two, the next `reseal` finds it here and ends what was begun."""
    path = folder.path / "key-secret.new"
    if path.exists():
        warn("going on with the new secret of a `reseal` that was not finished")
        return path
    text = base64.b64encode(given or os.urandom(SECRET_BYTES)) + b"\n"
    part = folder.path / f".key-secret.{secrets.token_hex(8)}.part"
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            if os.geteuid() == 0:
                # Root has made it for the user of the service, who must read it at the next start.
                owner = folder.path.stat()
                os.fchown(descriptor, owner.st_uid, owner.st_gid)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        # There whole or not at all, and never in the place of another's.
        os.link(part, path)
    except OSError as error:
        raise CliError(
            f"the new secret could not be kept in {folder.path}: {error.strerror}",
            ExitCode.UNREACHABLE,
        ) from error
    finally:
        part.unlink()
    return path
