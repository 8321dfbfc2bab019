"""Numbered SQL files bring a database to the shape this version knows.

Each file runs once, in a transaction of its own, while its process alone holds the
migration lock: ten nodes may start at once.  What ran is kept with its checksum: a file
that was edited afterwards, or a database that a newer version has moved on, is refused.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import resources

from gateway.stores.protocols import Database, Transaction

WAIT_S = 60.0

_FILE_NAME = re.compile(r"(\d{4})_[a-z0-9_]+\.sql")
_STATEMENT_END = re.compile(r";[ \t]*\n")
_LEDGER = """CREATE TABLE IF NOT EXISTS schema_migrations (
    number BIGINT PRIMARY KEY,
    name TEXT NOT NULL,
    checksum TEXT NOT NULL,
    applied_at BIGINT NOT NULL
)"""


class SchemaProblem(Exception):
    """The database cannot be brought to, or used at, the shape this version knows."""


@dataclass(frozen=True, slots=True)
class Migration:
    number: int
    name: str
    text: str

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()

    def statements(self) -> list[str]:
        """Its statements; each ends with a semicolon at the end of a line."""
        parts = (part.strip() for part in _STATEMENT_END.split(self.text + "\n"))
        return [part for part in parts if _says_something(part)]


@dataclass(frozen=True, slots=True)
class SchemaStatus:
    applied: tuple[str, ...]
    pending: tuple[str, ...]


def shipped() -> list[Migration]:
    """The files of `gateway/stores/schema`, in their order."""
    migrations = [
        Migration(int(match[1]), entry.name, entry.read_text("utf-8"))
        for entry in resources.files("gateway.stores").joinpath("schema").iterdir()
        if (match := _FILE_NAME.fullmatch(entry.name))
    ]
    return sorted(migrations, key=lambda migration: migration.number)


async def upgrade(
    database: Database, migrations: Sequence[Migration] | None = None
) -> tuple[str, ...]:
    """Runs what has not run yet; the names of those files.  SchemaProblem when it must not."""
    known = shipped() if migrations is None else migrations
    if not (await status(database, known)).pending:
        return ()
    done = []
    for migration in known:
        async with database.migration_transaction(WAIT_S) as tx:
            await tx.run(_LEDGER)
            if migration.name in await _applied(tx, known):
                continue
            for statement in migration.statements():
                await tx.run(statement)
            await tx.run(
                "INSERT INTO schema_migrations (number, name, checksum, applied_at)"
                " VALUES (:number, :name, :checksum, :applied_at)",
                number=migration.number,
                name=migration.name,
                checksum=migration.checksum,
                applied_at=int(await tx.now()),
            )
            done.append(migration.name)
    return tuple(done)


async def status(database: Database, migrations: Sequence[Migration] | None = None) -> SchemaStatus:
    """What has run and what has not; SchemaProblem when this version cannot use the database."""
    known = shipped() if migrations is None else migrations
    async with database.read_transaction() as tx:
        applied = await _applied(tx, known) if await _has_ledger(tx, database.dialect) else []
    pending = tuple(migration.name for migration in known if migration.name not in applied)
    return SchemaStatus(tuple(applied), pending)


async def _applied(tx: Transaction, known: Iterable[Migration]) -> list[str]:
    by_number = {migration.number: migration for migration in known}
    names = []
    for row in await tx.all("SELECT number, name, checksum FROM schema_migrations ORDER BY number"):
        migration = by_number.get(row["number"])
        if migration is None:
            raise SchemaProblem(
                f"the database has {row['name']}, which this version does not know:"
                " it was upgraded by a newer version"
            )
        if migration.checksum != row["checksum"]:
            raise SchemaProblem(f"{migration.name} was changed after it had run on this database")
        names.append(migration.name)
    return names


async def _has_ledger(tx: Transaction, dialect: str) -> bool:
    if dialect == "sqlite":
        sql = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'schema_migrations'"
    else:
        sql = "SELECT 1 WHERE to_regclass('schema_migrations') IS NOT NULL"
    return await tx.one(sql) is not None


def _says_something(statement: str) -> bool:
    lines = (line.strip() for line in statement.splitlines())
    return any(line and not line.startswith("--") for line in lines)
