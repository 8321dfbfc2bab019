"""Numbered SQL files bring a database to the shape this version knows.

Each file runs once, in a transaction of its own, while its process alone holds the
migration lock: ten nodes may start at once.  On a database that holds nothing yet all of them
are one transaction, which waits for the disk once.  What ran is kept with its checksum: a file
that was edited afterwards is refused.

While nodes are upgraded one after the other, older releases go on with a schema that a newer one
has moved on, and one of them may be started anew.  So a file only adds, or takes away what no
release since the one that it names uses any more (`-- needs: NNNN`, the newest file of the oldest
release that may start on what it leaves).  A release takes a schema that is ahead of it where no
file needs more than it has, and refuses it by name where one does.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import resources
from time import monotonic

from gateway.stores.protocols import Database, LockBusy, Transaction

WAIT_S = 60.0
LOCK_TIMEOUT_MS = 300
"""For a table: an ALTER TABLE waits for who reads it, a dump among them, and everybody else waits
behind it.  A call's own statements may take 1.2 s."""
AGAIN_AFTER_S = 0.5
INDEX_S = 900.0
"""To build an index of a large table."""

_FILE_NAME = re.compile(r"(\d{4})_[a-z0-9_]+\.sql")
_STATEMENT_END = re.compile(r";[ \t]*\n")
_LEDGER = """CREATE TABLE IF NOT EXISTS schema_migrations (
    number BIGINT PRIMARY KEY,
    name TEXT NOT NULL,
    checksum TEXT NOT NULL,
    applied_at BIGINT NOT NULL,
    needs BIGINT
)"""
_NEEDS = re.compile(r"^-- needs: (\d{4})$", re.M)
_INDEX = re.compile(r"^CREATE INDEX (?=\w+ ON )", re.M)
_ONLY = re.compile(r"^-- only: (sqlite|postgresql)$", re.M)


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

    @property
    def needs(self) -> int:
        """The number of the newest file that a release must have to start on this schema; 0
        where any release may that takes a schema ahead of it."""
        match = _NEEDS.search(self.text)
        return int(match[1]) if match else 0

    def statements(self, dialect: str = "sqlite") -> list[str]:
        """Its statements; each ends with a semicolon at the end of a line.

        A line `-- only: postgresql` (or sqlite) before one leaves it out elsewhere: for an index
        whose expression no text says in both.  Tables and columns are the same everywhere.
        """
        parts = (part.strip() for part in _STATEMENT_END.split(self.text + "\n"))
        return [part for part in parts if _says_something(part) and _is_of(part, dialect)]


@dataclass(frozen=True, slots=True)
class SchemaStatus:
    applied: tuple[str, ...]
    pending: tuple[str, ...]
    ahead: tuple[str, ...] = ()
    """What a newer version has run, and this one can do with."""


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
    found = await status(database, known)
    if not found.pending:
        return ()
    if not found.applied and await _run_all(database, known):
        return found.pending
    done = []
    for migration in known:
        until = monotonic() + WAIT_S
        while True:
            try:
                ran = await _run(database, migration, known)
                break
            except LockBusy:
                if monotonic() >= until:
                    raise
            # Everybody who stood behind it in the queue for the table goes first.
            await asyncio.sleep(AGAIN_AFTER_S)
        done += [migration.name] if ran else []
    return tuple(done)


async def _run_all(database: Database, known: Sequence[Migration]) -> bool:
    """Whether none had run yet."""
    async with database.migration_transaction(WAIT_S) as tx:
        await _make_ledger(tx, database.dialect)
        applied, ahead = await _applied(tx, known)
        if applied or ahead:
            return False
        for migration in known:
            for statement in migration.statements(database.dialect):
                await tx.run(statement)
            await _note(tx, migration)
    return True


async def _run(database: Database, migration: Migration, known: Sequence[Migration]) -> bool:
    """Whether it had not run yet.  Raises LockBusy where somebody uses a table of it."""
    statements = migration.statements(database.dialect)
    if all(_INDEX.search(statement) for statement in statements):
        if migration.name in (await status(database, known)).applied:
            return False
        for statement in statements:
            await _build(database, _INDEX.sub("CREATE INDEX IF NOT EXISTS ", statement, count=1))
        statements = []
    async with database.migration_transaction(WAIT_S) as tx:
        await _bound_waits(tx, database.dialect)
        await _make_ledger(tx, database.dialect)
        applied, ahead = await _applied(tx, known)
        if migration.name in applied:
            return False
        if ahead:
            raise SchemaProblem(
                f"the database has {ahead[0]} of a newer version and lacks {migration.name}"
                " of this one: no release leads from one to the other"
            )
        for statement in statements:
            await tx.run(statement)
        await _note(tx, migration)
    return True


async def _note(tx: Transaction, migration: Migration) -> None:
    """That it has run."""
    await tx.run(
        "INSERT INTO schema_migrations (number, name, checksum, applied_at, needs)"
        " VALUES (:number, :name, :checksum, :applied_at, :needs)",
        number=migration.number,
        name=migration.name,
        checksum=migration.checksum,
        applied_at=int(await tx.now()),
        needs=migration.needs,
    )


async def _build(database: Database, index: str) -> None:
    """Nobody writes to its table meanwhile, and to no other: each is a transaction of its own,
    and where one of them has to wait the others are there already."""
    async with database.migration_transaction(INDEX_S) as tx:
        await _bound_waits(tx, database.dialect)
        await tx.run(index)


async def _bound_waits(tx: Transaction, dialect: str) -> None:
    if dialect == "postgresql":
        await tx.run(f"SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}")


async def status(database: Database, migrations: Sequence[Migration] | None = None) -> SchemaStatus:
    """What has run and what has not; SchemaProblem when this version cannot use the database."""
    known = shipped() if migrations is None else migrations
    async with database.read_transaction() as tx:
        has_ledger = await _has_ledger(tx, database.dialect)
        applied, ahead = await _applied(tx, known) if has_ledger else ([], [])
    pending = tuple(migration.name for migration in known if migration.name not in applied)
    return SchemaStatus(tuple(applied), pending, tuple(ahead))


async def _applied(tx: Transaction, known: Iterable[Migration]) -> tuple[list[str], list[str]]:
    """What has run of those that are known, and what has run besides."""
    by_number = {migration.number: migration for migration in known}
    newest = max(by_number, default=0)
    names, ahead = [], []
    for row in await tx.all("SELECT * FROM schema_migrations ORDER BY number"):
        migration = by_number.get(row["number"])
        if migration is None:
            # Without the column, or a value in it, an older version than this one wrote the row.
            needs = row.get("needs")
            if needs is None or needs > newest:
                raise SchemaProblem(
                    f"the database has {row['name']}, which this version does not know:"
                    " it was upgraded by a newer version, and only a newer one can use it"
                )
            ahead.append(row["name"])
            continue
        if migration.checksum != row["checksum"]:
            raise SchemaProblem(f"{migration.name} was changed after it had run on this database")
        names.append(migration.name)
    return names, ahead


async def _make_ledger(tx: Transaction, dialect: str) -> None:
    """The table, and the column that those of older versions lack."""
    await tx.run(_LEDGER)
    if dialect == "sqlite":
        sql = "SELECT 1 FROM pragma_table_info('schema_migrations') WHERE name = 'needs'"
    else:
        sql = (
            "SELECT 1 FROM pg_attribute WHERE attrelid = to_regclass('schema_migrations')"
            " AND attname = 'needs'"
        )
    if await tx.one(sql) is None:
        await tx.run("ALTER TABLE schema_migrations ADD COLUMN needs BIGINT")


async def _has_ledger(tx: Transaction, dialect: str) -> bool:
    if dialect == "sqlite":
        sql = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'schema_migrations'"
    else:
        sql = "SELECT 1 WHERE to_regclass('schema_migrations') IS NOT NULL"
    return await tx.one(sql) is not None


def _says_something(statement: str) -> bool:
    lines = (line.strip() for line in statement.splitlines())
    return any(line and not line.startswith("--") for line in lines)


def _is_of(statement: str, dialect: str) -> bool:
    only = _ONLY.search(statement)
    return only is None or only[1] == dialect
