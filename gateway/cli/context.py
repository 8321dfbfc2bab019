"""How commands reach the installation: its settings, its SQL store, and the running workers.

    def list_users(as_json: AsJson = False) -> None:
        async def work(house: House) -> list[Row]: ...
        table(run(work), ["email", "roles"], as_json=as_json)

`run` translates what can go wrong into one line and an exit code: 2 for wrong settings, 3 for
a store that cannot be reached or is not there.  No command makes a database or a data folder but
`gateway db upgrade`: in the wrong folder, or without the settings of the service, it would work
on an installation that nobody serves.  One that changes something says where.
"""

from __future__ import annotations

import asyncio
import os
import pwd
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TypeVar

from gateway.app.data_dir import DataFolder, FolderError
from gateway.app.setting_types import without_secrets
from gateway.app.settings import Settings
from gateway.app.shared_settings import longest_staleness_s
from gateway.audit.log import AuditEvent, AuditKind, AuditLog
from gateway.audit.operator_events import operator_event
from gateway.cli.environment import service_not_read, settings
from gateway.cli.output import CliError, ExitCode, warn
from gateway.identity.key_derivation import KeyPurpose, derived_key
from gateway.model import Change, Clock, SystemClock
from gateway.revocation.command_publisher import CommandPublisher
from gateway.revocation.stream_identity import another_stream_is_followed
from gateway.stores.attempts import RedisAttempts
from gateway.stores.embedded import embedded_url
from gateway.stores.migrations import SchemaProblem, status
from gateway.stores.open_database import open_database, sqlite_path
from gateway.stores.protocols import Attempts, Database, RevocationPublisher, StoreUnavailable
from gateway.stores.redis import RedisStore, open_redis
from gateway.stores.stream import RedisChangeStream

TAKES_DASHED_IDS = {"ignore_unknown_options": True, "help_option_names": ["--help"]}
"""Of a command whose argument is an id, which may begin with a dash: one thumbprint in 64 does
(RFC 7638, base64url).  So `-h…` is no call for help, which would end well without anything done."""

PENDING = "kept, but not yet confirmed by every worker; it goes on by itself"
KEPT = (
    "kept in SQL, and told to nobody from here.  Correct GATEWAY_REDIS_URL; a gateway that runs"
    " tells all others within seconds, and one that starts reads it in SQL"
)

T = TypeVar("T")


class NobodyListens:
    """The publisher of an installation that no gateway of its data folder serves now: SQL alone
    is the truth, and a gateway reads it at its start."""

    def __init__(self, chosen: Settings, folder: DataFolder, database: Database) -> None:
        self._folder = folder
        self._database = database
        self._alone = chosen.stores_are_own
        self.why = ""
        """Why nobody was told, although somebody may listen."""

    async def publish(self, changes: Sequence[Change]) -> bool:
        """Whether nobody had to be told.  Asked once the changes are committed: a gateway that
        begins later reads them in SQL."""
        self.why = ""
        if not changes:
            return True
        if self._folder.in_use():
            return False  # it has begun meanwhile
        if not self._alone and await another_stream_is_followed(self._database, _no_stream):
            self.why = (
                f"a gateway of this database runs, and not on the data folder {self._folder.path}"
            )
        return not self.why


async def _no_stream() -> str:
    return ""


@dataclass(slots=True)
class CommandContext:
    """An installation, open for one command."""

    settings: Settings
    folder: DataFolder
    database: Database
    redis: RedisStore | None
    """None while the embedded one is at rest: no gateway runs then."""
    attempts: Attempts | None
    """The counters of the login throttle; None as for `redis`."""
    publisher: RevocationPublisher
    key_secret: bytes
    clock: Clock
    audit: AuditLog
    changed: bool = False
    """Whether this command changed anything."""

    def tell(self, kind: AuditKind, subject: str | None, change: str, **detail: str) -> None:
        """Records what this command did; it is written when the command ends."""
        self.record(operator_event(kind, subject, change, **detail))

    def record(self, event: AuditEvent) -> None:
        self.changed = True
        self.audit.record(replace(event, actor=f"cli:{user_name()}"))

    @property
    def running(self) -> bool:
        """Whether a gateway may be running."""
        return self.redis is not None

    async def publish(self, changes: Sequence[Change]) -> None:
        """Brings committed changes to every live worker; CliError (exit 3) when that could not be
        confirmed."""
        self.changed = True
        if not await self.publisher.publish(changes):
            raise self.unconfirmed()

    def unconfirmed(self) -> CliError:
        """What ends a command whose change is kept and may not be known to every worker."""
        text = f"{self.told_nobody}: {KEPT}" if self.told_nobody else PENDING
        return CliError(text, ExitCode.UNREACHABLE)

    @property
    def told_nobody(self) -> str:
        """Why nobody was told; empty where somebody was, or there is nobody."""
        publisher = self.publisher
        if isinstance(publisher, CommandPublisher | NobodyListens):
            return publisher.why
        return ""

    async def throttle_counters(self) -> Attempts | None:
        """The counters of the login throttle; None while the embedded Redis is at rest.  CliError
        (exit 3) where this is not the Redis that the gateways count in."""
        publisher = self.publisher
        if isinstance(publisher, CommandPublisher) and not await publisher.finds_workers():
            raise CliError(f"{publisher.why}: nothing was forgotten there", ExitCode.UNREACHABLE)
        return self.attempts


def run(work: Callable[[CommandContext], Awaitable[T]]) -> T:
    """Opens the installation, does the work, closes it."""
    chosen = settings()

    async def whole() -> T:
        end_in_order()
        async with opened(chosen) as context:
            try:
                return await work(context)
            finally:
                if context.changed:
                    warn(_where(context))

    try:
        return asyncio.run(whole())
    except asyncio.CancelledError as ended:
        raise CliError(f"ended by a signal: {PENDING}", ExitCode.UNREACHABLE) from ended
    except StoreUnavailable as error:
        raise unreachable(error, chosen) from error
    except (FolderError, ValueError) as error:
        raise CliError(str(error), ExitCode.USAGE) from error
    except SchemaProblem as error:
        raise CliError(str(error)) from error


def end_in_order() -> None:
    """SIGTERM, or a terminal that is gone, ends a command as Ctrl-C does: what it has changed is
    written to the audit log first."""
    work = asyncio.current_task()
    assert work is not None
    for signum in (signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(signum, work.cancel)


@asynccontextmanager
async def opened(chosen: Settings) -> AsyncIterator[CommandContext]:
    """The installation that is there; what a gateway that runs must know of is announced to its
    workers, and where none runs SQL alone is the truth.  CliError (exit 3) where there is none."""
    folder = DataFolder(chosen.data_dir)
    folder.check()
    clock = SystemClock()
    database = existing_database(chosen, clock)
    redis: RedisStore | None = None
    try:
        url = redis_url(chosen, folder)
        await _check_schema(database, chosen)
        publisher: RevocationPublisher = NobodyListens(chosen, folder, database)
        if url is None:
            warn("no gateway is running: working on SQL alone")
        else:
            redis = open_redis(url, durable=chosen.embedded_redis)
            publisher = CommandPublisher(
                database,
                RedisChangeStream(redis, begins=False),
                clock,
                max_staleness_s=await longest_staleness_s(database, chosen.max_staleness_s),
            )
        secret = chosen.key_secret_bytes() or folder.key_secret(make=False)
        audit = AuditLog(
            database,
            clock,
            derived_key(secret, KeyPurpose.AUDIT_PSEUDONYM),
            derived_key(secret, KeyPurpose.AUDIT_CHAIN),
        )
        context = CommandContext(
            settings=chosen,
            folder=folder,
            database=database,
            redis=redis,
            attempts=None if redis is None else RedisAttempts(redis),
            publisher=publisher,
            key_secret=secret,
            clock=clock,
            audit=audit,
        )
        try:
            yield context
        finally:
            # Also when what was done could not be confirmed: it was done.
            await audit.flush()
    finally:
        if redis is not None:
            await redis.close()
        await database.close()


def existing_database(chosen: Settings, clock: Clock) -> Database:
    """The SQL store; CliError (exit 3) where it is a file that is not there, which is never made
    here."""
    if chosen.database_url.startswith("sqlite:"):
        path = sqlite_path(chosen.database_url).absolute()
        try:
            there = path.is_file()
        except PermissionError as error:
            raise CliError(
                f"{path} cannot be read by you: run this as root or as the service's user",
                ExitCode.USAGE,
            ) from error
        if not there:
            raise CliError(_no_database(f"there is no database {path}"), ExitCode.UNREACHABLE)
    return open_database(chosen.database_url, clock=clock)


def unreachable(error: StoreUnavailable, chosen: Settings) -> CliError:
    """What ends a command that a store did not answer: it names the store."""
    named = {"sql": chosen.database_url, "redis": chosen.redis_url}
    place = without_secrets(named[error.store]) if error.store in named else error.store
    return CliError(f"{place} could not be reached: {error.detail}", ExitCode.UNREACHABLE)


async def _check_schema(database: Database, chosen: Settings) -> None:
    found = await status(database)
    place = without_secrets(chosen.database_url)
    if found.pending and not found.applied:
        raise CliError(_no_database(f"{place} holds no authgate database"), ExitCode.UNREACHABLE)
    if found.pending:
        raise CliError(
            f"{place} lacks {', '.join(found.pending)}: `gateway db upgrade`, or the start of a"
            " gateway of this version, brings it up to date",
            ExitCode.UNREACHABLE,
        )


def _no_database(found: str) -> str:
    asked = (
        f"{found}, and only `gateway serve`, `dev` and `db upgrade` make one.  If you mean an"
        " installation that exists, name its settings with --env-file F, or set"
        " GATEWAY_DATABASE_URL or GATEWAY_DATA_DIR"
    )
    reason = service_not_read()
    return f"{asked} ({reason})" if reason else asked


def _where(context: CommandContext) -> str:
    """Which installation was changed: a command that ran without the settings of the service
    has changed another one than was meant."""
    place = f"changed in {without_secrets(context.settings.database_url)}"
    if context.told_nobody:
        return f"{place}, told to nobody"
    if not context.running:
        return f"{place}; no gateway of {context.folder.path} is running"
    if context.settings.embedded_redis:
        return f"{place}, told to the gateway of {context.folder.path}"
    return f"{place}, told over {without_secrets(context.settings.redis_url)}"


def user_name() -> str:
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
