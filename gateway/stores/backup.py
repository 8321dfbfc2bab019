"""All rows of a database in one file, and back, whichever SQL store they came from.

A line of JSON each: a head with the schema and the time, then `[table, row]`, then a foot with
the number of rows and an HMAC of all lines before it, under a key that is derived from the
installation's secret: a file that was cut short or edited, by whoever kept it, is refused before
anything is touched.  It is read twice, and must be the same file both times.
"""

from __future__ import annotations

import hmac
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, BinaryIO

from gateway.atomic_file import atomic_file
from gateway.stores.migrations import SchemaStatus, shipped, status
from gateway.stores.protocols import Database, Transaction

PAGE_ROWS = 1000
RESTORE_TIMEOUT_S = 3600.0
FORMAT = 2
MAX_LINE_BYTES = 1 << 26
"""Of a line of a backup: one row."""

ONLY_GROWS = ("audit_events", "changes", "tombstones", "client_assertions")
"""Tables that a restore adds to and never takes from: what was seen, what was revoked, what ended
and what was used up since the backup stays true."""


_OF_TWO_TOMBSTONES = (
    " ON CONFLICT (kind, target) DO UPDATE SET"
    " epoch = CASE WHEN tombstones.epoch > excluded.epoch"
    " THEN tombstones.epoch ELSE excluded.epoch END,"
    " ended_at = CASE WHEN tombstones.ended_at > excluded.ended_at"
    " THEN tombstones.ended_at ELSE excluded.ended_at END"
)
"""The higher epoch counts, and the later end: a database that was lost may have been given an older
backup first."""


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


@dataclass(frozen=True, slots=True)
class Contents:
    """What a checked backup holds."""

    at_ms: int
    """When it was written, by the store's clock."""
    rows: int
    newest_audit: tuple[str, int] | None
    """Writer and position of the last event of the audit log in it."""
    tables: Mapping[str, int]
    """How many rows of each."""
    newest_migration: str
    release: str | None
    """The version of authgate that wrote it; None where it was one that did not say."""
    dialect: str
    """Of the store that it came from; it goes into either."""


async def write(database: Database, path: Path, key: bytes, release: str = "") -> int:
    """Writes what one moment's database holds to an owner-only file; how many rows.

    `key`: `derived_key(secret, KeyPurpose.BACKUP)`.  `release`: the version that writes it.  What
    stood at `path` is replaced once the new file is whole.
    """
    schema = await whole_schema(database)
    digest, rows = hmac.new(key, digestmod="sha256"), 0
    with atomic_file(path) as file:

        def put(value: Any) -> None:
            line = json.dumps(value, separators=(",", ":")).encode() + b"\n"
            digest.update(line)
            file.write(line)

        async with database.read_transaction() as tx:
            put(
                {
                    "authgate": FORMAT,
                    "schema": schema.applied,
                    "dialect": database.dialect,
                    "release": release or None,
                    "at_ms": int(await tx.now() * 1000),
                }
            )
            for table in tables():
                after: Mapping[str, Any] | None = None
                while page := await _page(tx, table, after):
                    for row in page:
                        put([table.name, dict(row)])
                    rows += len(page)
                    after = page[-1]
        foot = {"rows": rows, "hmac-sha256": digest.hexdigest()}
        file.write(json.dumps(foot).encode() + b"\n")
    return rows


async def check(database: Database, file: BinaryIO, key: bytes) -> Contents:
    """Reads the file through; BackupRefused unless it is whole, of this installation, and fits
    the database."""
    await whole_schema(database)
    return read_through(file, key)


def read_through(file: BinaryIO, key: bytes) -> Contents:
    """What the file holds; BackupRefused unless it is whole, of this installation, and of no
    newer version than this."""
    known = {table.name for table in tables()}
    counted = dict.fromkeys(sorted(known), 0)
    head: dict[str, Any] = {}
    newest: tuple[int, str, int] | None = None
    for number, value in _values(file, key):
        if number == 0:
            head = _checked_head(value)
            continue
        table, row = value
        if table not in known:
            raise BackupRefused(f"line {number + 1}: an unknown table")
        counted[table] += 1
        if table == "audit_events":
            event = _audit_event(row, number)
            newest = event if newest is None else max(newest, event)
    return Contents(
        at_ms=int(head["at_ms"]),
        rows=sum(counted.values()),
        newest_audit=newest and newest[1:],
        tables={name: rows for name, rows in counted.items() if rows},
        newest_migration=max(head["schema"], default=""),
        release=head.get("release"),
        dialect=str(head.get("dialect")),
    )


def _audit_event(row: Mapping[str, Any], number: int) -> tuple[int, str, int]:
    """Its time, writer and position.  Whether anybody changed the row is not known yet."""
    at_ms, writer, position = (row.get(name) for name in ("at_ms", "writer", "position"))
    if not (isinstance(at_ms, int) and isinstance(writer, str) and isinstance(position, int)):
        raise BackupRefused(f"line {number + 1}: not a line of a backup")
    return at_ms, writer, position


async def replace(tx: Transaction, file: BinaryIO, key: bytes) -> int:
    """Puts the rows of a checked file in the place of what there is; how many rows.  Raises
    BackupRefused where the file is not what was checked: roll back then."""
    order = tables()
    for table in reversed(order):
        if table.name not in ONLY_GROWS:
            await tx.run(f"DELETE FROM {table.name}")  # noqa: S608 (a name of our own)
    rows = 0
    for name, batch in _batches(file, key):
        columns = list(batch[0])
        spread = ", ".join(f":{column}" for column in columns)
        known = " ON CONFLICT DO NOTHING" if name in ONLY_GROWS else ""
        known = _OF_TWO_TOMBSTONES if name == "tombstones" else known
        await tx.many(
            f"INSERT INTO {name} ({', '.join(columns)}) VALUES ({spread}){known}",  # noqa: S608
            batch,
        )
        rows += len(batch)
    return rows


async def whole_schema(database: Database) -> SchemaStatus:
    """Raises BackupRefused where the database is not of this very version's shape."""
    schema = await status(database)
    if schema.pending:
        raise BackupRefused("the database lacks migrations: run `gateway db upgrade` first")
    if schema.ahead:
        raise BackupRefused(
            f"the database has {schema.ahead[0]} of a newer version, and this one does not know"
            " what it holds: have that version write and restore backups"
        )
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


def _batches(file: BinaryIO, key: bytes) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Rows of one table and of the same columns, up to a page of them."""
    name, batch = "", list[dict[str, Any]]()
    for number, value in _values(file, key):
        if number == 0:
            continue
        table, row = value
        if batch and (table != name or len(batch) >= PAGE_ROWS or row.keys() != batch[0].keys()):
            yield name, batch
            batch = []
        name = table
        batch.append(row)
    if batch:
        yield name, batch


def _values(file: BinaryIO, key: bytes) -> Iterator[tuple[int, Any]]:
    """The head, then every `[table, row]`, with the line's number from 0.  Raises BackupRefused;
    whether the file is whole is known at the end alone."""
    file.seek(0)
    digest, rows = hmac.new(key, digestmod="sha256"), 0
    foot: Any = None
    for number, line in enumerate(_lines(file)):
        value = _parsed(line, number)
        if foot is not None:
            raise BackupRefused("something follows the end of the backup")
        if number > 0 and isinstance(value, dict):
            foot = value
            continue
        rows += number > 0
        digest.update(line)
        yield number, value
    if foot is None:
        raise BackupRefused("the backup was cut short")
    expected = str(foot.get("hmac-sha256", "")).encode("utf-8", "replace")
    if foot.get("rows") != rows or not hmac.compare_digest(expected, digest.hexdigest().encode()):
        raise BackupRefused(
            "the backup was changed after it was written, or it was written under another"
            " GATEWAY_KEY_SECRET: --secret-file names the one of that time"
        )


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """What is no backup may have no end of a line for gigabytes."""
    for number in count(1):
        line = file.readline(MAX_LINE_BYTES)
        if not line:
            return
        if number == 1 and not line.startswith(b"{"):
            raise BackupRefused(_foreign(line))
        if not line.endswith(b"\n"):
            if len(line) == MAX_LINE_BYTES:
                raise BackupRefused(f"line {number}: longer than any line of a backup")
            raise BackupRefused(f"the backup was cut short, within line {number}")
        yield line


_OTHERS = {
    b"SQLite format 3": "this is the file of an SQLite database",
    b"PGDMP": "this is a dump of pg_dump",
    b"\x1f\x8b": "this is compressed (gzip): decompress it first",
    b"\x28\xb5\x2f\xfd": "this is compressed (zstd): decompress it first",
    b"\xfd7zXZ": "this is compressed (xz): decompress it first",
    b"age-encryption.org": "this is encrypted (age): decrypt it first",
    b"-----BEGIN PGP": "this is encrypted (PGP): decrypt it first",
}


def _foreign(line: bytes) -> str:
    """What a file is that is no backup, where that can be told."""
    what = next((told for magic, told in _OTHERS.items() if line.startswith(magic)), None)
    told = what or "this is no backup of authgate"
    return told if what and "first" in what else f"{told}: `gateway db backup` writes one"


def _parsed(line: bytes, number: int) -> Any:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        if number == 0:
            raise BackupRefused(_foreign(line)) from None
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


def _checked_head(head: Any) -> dict[str, Any]:
    if not isinstance(head, dict) or "authgate" not in head:
        raise BackupRefused(_foreign(b"{"))
    written_by = f" (authgate {head['release']})" if isinstance(head.get("release"), str) else ""
    schema = head.get("schema")
    whole = (
        head["authgate"] == FORMAT
        and isinstance(head.get("at_ms"), int)
        and isinstance(schema, list)
        and all(isinstance(name, str) for name in schema)
    )
    if not whole:
        raise BackupRefused(
            f"this backup is of another version of authgate{written_by}: that version restores it,"
            " and `gateway db upgrade` brings the database on"
        )
    known = {migration.name for migration in shipped()}
    unknown = [name for name in head["schema"] if name not in known]
    if unknown:
        raise BackupRefused(
            f"the backup is of a newer version{written_by}: it has {unknown[0]}, which this version"
            " does not know"
        )
    return head


def _primary_key(columns: str) -> tuple[str, ...]:
    if match := re.search(r"PRIMARY KEY \(([^)]*)\)", columns):
        return tuple(name.strip() for name in match[1].split(","))
    if match := re.search(r"(\w+) \w+ PRIMARY KEY", columns):
        return (match[1],)
    raise ValueError("a table without a primary key cannot be backed up")
