"""All rows of a database in one file, and back, whichever SQL store they came from.

A line of JSON each: a head with the schema, then `[table, row]`, then a foot with the number
of rows and the digest of all lines before it, so that a file which was cut short or edited
is refused before anything is touched.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.stores.migrations import SchemaStatus, shipped, status
from gateway.stores.protocols import Database, Transaction

PAGE_ROWS = 1000
RESTORE_WITHIN_S = 3600.0
FORMAT = 1

ONLY_GROWS = ("audit_events", "changes")
"""Tables that a restore adds to and never takes from: what was seen and what was revoked
since the backup stays true."""


class BackupRefused(Exception):
    """The file is no whole backup, or not one for this database."""


@dataclass(frozen=True, slots=True)
class Table:
    name: str
    key: tuple[str, ...]


def tables() -> list[Table]:
    """Every table of the migrations, those that others refer to first."""
    return [
        Table(match[1], _primary_key(match[2]))
        for migration in shipped()
        for statement in migration.statements()
        if (match := re.search(r"CREATE TABLE (\w+) \((.*)\)", statement, re.DOTALL))
    ]


async def write(database: Database, path: Path) -> int:
    """Writes what one moment's database holds to an owner-only file; how many rows."""
    schema = await _whole(database)
    new = path.with_name(path.name + ".part")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    digest, rows = hashlib.sha256(), 0
    try:
        with os.fdopen(descriptor, "wb") as file:

            def put(value: Any) -> None:
                line = json.dumps(value, separators=(",", ":")).encode() + b"\n"
                digest.update(line)
                file.write(line)

            put({"authgate": FORMAT, "schema": schema.applied, "dialect": database.dialect})
            async with database.reading() as tx:
                for table in tables():
                    after: Mapping[str, Any] | None = None
                    while page := await _page(tx, table, after):
                        for row in page:
                            put([table.name, dict(row)])
                        rows += len(page)
                        after = page[-1]
            foot = {"rows": rows, "sha256": digest.hexdigest()}
            file.write(json.dumps(foot).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)
    return rows


async def check(database: Database, path: Path) -> None:
    """Reads the file through; BackupRefused unless it is whole and fits the database."""
    schema = await _whole(database)
    digest, rows = hashlib.sha256(), 0
    foot: Any = None
    known = {table.name for table in tables()}
    with path.open("rb") as file:
        for number, line in enumerate(file):
            value = _parsed(line, number)
            if foot is not None:
                raise BackupRefused("something follows the end of the backup")
            if number == 0:
                _check_head(value, schema)
            elif isinstance(value, dict):
                foot = value
                continue
            elif value[0] not in known:
                raise BackupRefused(f"line {number + 1}: an unknown table")
            else:
                rows += 1
            digest.update(line)
    if foot is None:
        raise BackupRefused("the backup was cut short")
    if foot.get("rows") != rows or foot.get("sha256") != digest.hexdigest():
        raise BackupRefused("the backup was changed after it was written")


async def replace(tx: Transaction, path: Path) -> int:
    """Puts the rows of a checked file in the place of what there is; how many rows."""
    order = tables()
    for table in reversed(order):
        if table.name not in ONLY_GROWS:
            await tx.run(f"DELETE FROM {table.name}")  # noqa: S608 (a name of our own)
    rows = 0
    for name, batch in _batches(path):
        columns = list(batch[0])
        spread = ", ".join(f":{column}" for column in columns)
        known = " ON CONFLICT DO NOTHING" if name in ONLY_GROWS else ""
        await tx.many(
            f"INSERT INTO {name} ({', '.join(columns)}) VALUES ({spread}){known}",  # noqa: S608
            batch,
        )
        rows += len(batch)
    return rows


async def _whole(database: Database) -> SchemaStatus:
    schema = await status(database)
    if schema.pending:
        raise BackupRefused("the database lacks migrations: run `gateway db upgrade` first")
    return schema


async def _page(
    tx: Transaction, table: Table, after: Mapping[str, Any] | None
) -> Sequence[Mapping[str, Any]]:
    columns = ", ".join(table.key)
    where, values = "", {}
    if after is not None:
        spread = ", ".join(f":after_{column}" for column in table.key)
        where = f" WHERE ({columns}) > ({spread})"
        values = {f"after_{column}": after[column] for column in table.key}
    sql = f"SELECT * FROM {table.name}{where} ORDER BY {columns} LIMIT {PAGE_ROWS}"  # noqa: S608
    return await tx.all(sql, **values)


def _batches(path: Path) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Rows of one table and of the same columns, up to a page of them."""
    name, batch = "", list[dict[str, Any]]()
    with path.open("rb") as file:
        for number, line in enumerate(file):
            value = _parsed(line, number)
            if not isinstance(value, list):
                continue
            table, row = value
            if batch and (
                table != name or len(batch) >= PAGE_ROWS or row.keys() != batch[0].keys()
            ):
                yield name, batch
                batch = []
            name = table
            batch.append(row)
    if batch:
        yield name, batch


def _parsed(line: bytes, number: int) -> Any:
    try:
        value = json.loads(line)
    except ValueError:
        raise BackupRefused(f"line {number + 1}: not a line of a backup") from None
    is_row = (
        isinstance(value, list)
        and len(value) == 2
        and isinstance(value[0], str)
        and isinstance(value[1], dict)
        and all(re.fullmatch(r"\w+", column) for column in value[1])
    )
    if not is_row and not isinstance(value, dict):
        raise BackupRefused(f"line {number + 1}: not a line of a backup")
    return value


def _check_head(head: Any, schema: SchemaStatus) -> None:
    if not isinstance(head, dict) or head.get("authgate") != FORMAT:
        raise BackupRefused("this is no backup of authgate")
    unknown = [name for name in head.get("schema", []) if name not in schema.applied]
    if unknown:
        raise BackupRefused(f"the backup is of a newer version: it has {unknown[0]}")


def _primary_key(columns: str) -> tuple[str, ...]:
    if match := re.search(r"PRIMARY KEY \(([^)]*)\)", columns):
        return tuple(name.strip() for name in match[1].split(","))
    if match := re.search(r"(\w+) \w+ PRIMARY KEY", columns):
        return (match[1],)
    raise ValueError("a table without a primary key cannot be backed up")
