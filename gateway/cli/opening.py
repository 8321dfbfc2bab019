"""How commands reach the installation: its settings, its SQL store, and the running workers.

    def list_users(as_json: AsJson = False) -> None:
        async def work(house: House) -> list[Row]: ...
        table(run(work), ["email", "roles"], as_json=as_json)

`run` translates what can go wrong into one line and an exit code: 2 for wrong settings, 3 for
a store that cannot be reached.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from gateway import settings as settings_of
from gateway.cli.output import ExitCode, Stop, remark
from gateway.folder import DataFolder, FolderError
from gateway.model import Change, Clock, SystemClock
from gateway.settings import Settings, SettingsError
from gateway.stores.protocols import Announcer, Database, StoreUnavailable

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
    announcer: Announcer
    running: bool
    """Whether a gateway may be running: False where the embedded stores are at rest."""
    key_secret: bytes
    clock: Clock

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
    except FolderError as error:
        raise Stop(str(error), ExitCode.USAGE) from error


@asynccontextmanager
async def opened(chosen: Settings) -> AsyncIterator[House]:
    folder = DataFolder(chosen.data_dir)
    folder.make()
    stores: Any = importlib.import_module("gateway.stores")
    database = await stores.open_database(chosen.database_url)
    try:
        running = not chosen.embedded_redis or folder.in_use()
        announcer: Announcer = NobodyListens()
        if not running:
            remark("no gateway is running: working on SQL alone")
        yield House(
            settings=chosen,
            folder=folder,
            database=database,
            announcer=announcer,
            running=running,
            key_secret=chosen.key_secret_bytes() or folder.key_secret(),
            clock=SystemClock(),
        )
    finally:
        await database.close()
