"""How commands reach the installation: its settings, its SQL store, and the running workers.

    def list_users(as_json: AsJson = False) -> None:
        async def work(house: House) -> list[Row]: ...
        table(run(work), ["email", "roles"], as_json=as_json)

`run` translates what can go wrong into one line and an exit code: 2 for wrong settings, 3 for
a store that cannot be reached.
"""

from __future__ import annotations

import asyncio
import os
import pwd
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from gateway import settings as settings_of
from gateway.audit import AuditEvent, AuditKind, AuditLog
from gateway.cli.output import ExitCode, Stop, remark
from gateway.folder import DataFolder, FolderError
from gateway.identity.derived import KeyPurpose, derived_key
from gateway.model import Change, Clock, SystemClock
from gateway.settings import Settings, SettingsError
from gateway.stores.attempts import RedisAttempts
from gateway.stores.embedded import embedded_url
from gateway.stores.migrations import SchemaProblem, upgrade
from gateway.stores.opening import open_database
from gateway.stores.protocols import Announcer, Attempts, Database, StoreUnavailable
from gateway.stores.redis import RedisStore, open_redis
from gateway.stores.stream import RedisChangeStream
from gateway.worker.announce import Announcements

ConfigPath = Annotated[Path, typer.Option("--config", help="The routes file.", show_default=True)]
PoliciesPath = Annotated[Path, typer.Option("--policies", help="The folder of policies.")]
CONFIG = Path("routes.yaml")
POLICIES = Path("policies")

T = TypeVar("T")


class NobodyListens:
    """The announcer of an installation that no gateway serves now: SQL alone is the truth, and
    a gateway reads it at its start."""

    async def announce(self, changes: Sequence[Change]) -> bool:
        del changes
        return True


@dataclass(frozen=True, slots=True)
class House:
    """An installation, open for one command."""

    settings: Settings
    folder: DataFolder
    database: Database
    redis: RedisStore | None
    """None while the embedded one is at rest: no gateway runs then."""
    attempts: Attempts | None
    """The counters of the login throttle; None as for `redis`."""
    announcer: Announcer
    key_secret: bytes
    clock: Clock
    audit: AuditLog

    def tell(self, kind: AuditKind, subject: str | None, change: str, **detail: str) -> None:
        """Records what this command did; it is written when the command ends."""
        self.audit.record(
            AuditEvent(
                kind,
                subject=subject,
                actor=f"cli:{_user_name()}",
                detail={"change": change, **detail},
            )
        )

    @property
    def running(self) -> bool:
        """Whether a gateway may be running."""
        return self.redis is not None

    async def publish(self, changes: Sequence[Change]) -> None:
        """Brings committed changes to every live worker; Stop(3) when that could not be
        confirmed."""
        if not await self.announcer.announce(changes):
            raise Stop(
                "kept, but not yet confirmed by every worker; it goes on by itself",
                ExitCode.UNREACHABLE,
            )


def settings() -> Settings:
    """The settings; Stop(2) with every problem."""
    try:
        return settings_of.load()
    except SettingsError as error:
        raise Stop(
            "wrong settings\n  " + str(error).replace("\n", "\n  "), ExitCode.USAGE
        ) from error


def run(work: Callable[[House], Awaitable[T]]) -> T:
    """Opens the installation, does the work, closes it."""

    async def whole() -> T:
        async with opened(settings()) as house:
            return await work(house)

    try:
        return asyncio.run(whole())
    except StoreUnavailable as error:
        raise Stop(
            f"{error.store} could not be reached: {error.detail}", ExitCode.UNREACHABLE
        ) from error
    except (FolderError, ValueError) as error:
        raise Stop(str(error), ExitCode.USAGE) from error
    except SchemaProblem as error:
        raise Stop(str(error)) from error


@asynccontextmanager
async def opened(chosen: Settings) -> AsyncIterator[House]:
    """The installation, its schema brought up to date; what a gateway that runs must know of
    is announced to its workers, and where none runs SQL alone is the truth."""
    folder = DataFolder(chosen.data_dir)
    folder.make()
    clock = SystemClock()
    database = open_database(chosen.database_url, clock=clock)
    redis: RedisStore | None = None
    try:
        url = redis_url(chosen, folder)
        announcer: Announcer = NobodyListens()
        if url is None:
            remark("no gateway is running: working on SQL alone")
        else:
            redis = open_redis(url, durable=chosen.embedded_redis)
            announcer = Announcements(
                database,
                RedisChangeStream(redis),
                clock,
                max_staleness_s=chosen.max_staleness_s,
                # Whoever has watched nobody's lease before needs to see them out.
                confirm_within_s=2 * chosen.max_staleness_s + 2,
            )
        await upgrade(database)
        secret = chosen.key_secret_bytes() or folder.key_secret()
        audit = AuditLog(database, clock, derived_key(secret, KeyPurpose.AUDIT_ADDRESS))
        house = House(
            settings=chosen,
            folder=folder,
            database=database,
            redis=redis,
            attempts=None if redis is None else RedisAttempts(redis),
            announcer=announcer,
            key_secret=secret,
            clock=clock,
            audit=audit,
        )
        try:
            yield house
        finally:
            # Also when what was done could not be confirmed: it was done.
            await audit.flush()
    finally:
        if redis is not None:
            await redis.close()
        await database.close()


def _user_name() -> str:
    """Who runs the command, as the machine knows them."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def redis_url(chosen: Settings, folder: DataFolder) -> str | None:
    """Where Redis is; None while the embedded one is at rest, as no gateway runs."""
    if not chosen.embedded_redis:
        return chosen.redis_url
    return embedded_url(folder.path) if folder.in_use() else None
