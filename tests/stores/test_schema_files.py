"""Migrations expand first and contract later: while nodes are upgraded one after the other, the
previous release reads and writes the schema of this one."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.stores.migrations import Migration, shipped
from tests.previous_release import previous_commit

ROOT = Path(__file__).parents[2]
_WORDS = re.compile(r"\s+")
_CREATED = re.compile(r"CREATE TABLE (?:IF NOT EXISTS )?(\w+)")
_ADDED = re.compile(r"ALTER TABLE (\w+) ADD (?:COLUMN )?(?:IF NOT EXISTS )?(\w+) (.*)")
_PLAIN_INDEX = re.compile(r"CREATE INDEX (?:IF NOT EXISTS )?\w+ ON (\w+)")
_UNIQUE = re.compile(r"CREATE UNIQUE INDEX (?:IF NOT EXISTS )?\w+ ON (\w+) \((.*?)\)")


def newest_of_the_previous_release() -> int:
    listed = subprocess.run(
        ["git", "ls-tree", "--name-only", previous_commit(), "gateway/stores/schema/"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return max(int(Path(name).name[:4]) for name in listed.stdout.split())


def contractions(migration: Migration) -> Iterator[str]:
    """Each statement that takes something from a release that does not know this file."""
    written = dict.fromkeys(migration.statements() + migration.statements("postgresql"))
    statements = [_plain(statement) for statement in written]
    new_tables = {match[1] for text in statements if (match := _CREATED.match(text))}
    new_columns: set[tuple[str, str]] = set()
    for text in statements:
        if match := _ADDED.fullmatch(text):
            table, column, kind = match.groups()
            new_columns.add((table, column))
            needed = "NOT NULL" in kind and "DEFAULT" not in kind
            if table not in new_tables and (needed or re.search(r"\b(CHECK|REFERENCES)\b", kind)):
                yield text
        elif match := _UNIQUE.match(text):
            table, columns = match[1], [name.strip() for name in match[2].split(",")]
            known = [name for name in columns if (table, name) not in new_columns]
            if table not in new_tables and len(known) == len(columns):
                yield text
        elif not _only_adds(text, new_tables):
            yield text


def _only_adds(text: str, new_tables: set[str]) -> bool:
    if re.match(r"CREATE (TABLE|INDEX|VIEW) ", text):
        return True
    match = re.match(r"INSERT INTO (\w+)", text)
    # What a release of before has written is its own: it is not changed under it.
    return bool(match and match[1] in (*new_tables, "tombstones"))


def _plain(statement: str) -> str:
    lines = (line.partition("--")[0] for line in statement.splitlines())
    return _WORDS.sub(" ", " ".join(lines)).strip().rstrip(";")


def refused(migration: Migration, newest_before: int) -> list[str]:
    """What may not be in a file that this release adds to those of the previous one."""
    if migration.number <= newest_before or 0 < migration.needs <= newest_before:
        return []
    return list(contractions(migration))


@pytest.mark.parametrize("migration", shipped(), ids=lambda migration: str(migration.name))
def test_a_file_that_the_previous_release_lacks_takes_nothing_from_it(
    migration: Migration,
) -> None:
    assert refused(migration, newest_of_the_previous_release()) == []


def indexes_beside_others(migration: Migration) -> list[str]:
    """Indexes of tables that are there, in a file that does something else too: one transaction
    holds the tables of both."""
    written = dict.fromkeys(migration.statements() + migration.statements("postgresql"))
    statements = [_plain(statement) for statement in written]
    new = {match[1] for text in statements if (match := _CREATED.match(text))}
    new |= {match[1] for text in statements if (match := _ADDED.fullmatch(text))}
    indexes = [
        text for text in statements if (match := _PLAIN_INDEX.match(text)) and match[1] not in new
    ]
    return indexes if len(indexes) < len(statements) else []


@pytest.mark.parametrize("migration", shipped(), ids=lambda migration: str(migration.name))
def test_indexes_of_tables_that_are_there_have_a_file_of_their_own(migration: Migration) -> None:
    if migration.number > newest_of_the_previous_release():
        assert indexes_beside_others(migration) == []


def test_an_index_beside_a_table_is_told() -> None:
    text = "CREATE TABLE new (id TEXT);\nCREATE INDEX n ON new (id);\nCREATE INDEX o ON old (id);\n"
    found = indexes_beside_others(Migration(9000, "9000_x.sql", text))
    assert found == ["CREATE INDEX o ON old (id)"]


@pytest.mark.parametrize("migration", shipped(), ids=lambda migration: str(migration.name))
def test_no_file_needs_what_is_newer_than_itself(migration: Migration) -> None:
    assert migration.needs <= migration.number


@pytest.mark.parametrize(
    "text",
    [
        "DROP TABLE accounts;",
        "DROP INDEX accounts_by_email;",
        "ALTER TABLE accounts DROP COLUMN email;",
        "ALTER TABLE accounts RENAME COLUMN email TO mail;",
        "ALTER TABLE accounts RENAME TO people;",
        "ALTER TABLE accounts ADD COLUMN colour TEXT NOT NULL;",
        "ALTER TABLE accounts\n  ADD colour TEXT\n  NOT NULL;",
        "ALTER TABLE accounts ADD COLUMN tenant TEXT REFERENCES tenants (id);",
        "ALTER TABLE accounts ALTER COLUMN email SET NOT NULL;",
        "ALTER TABLE accounts ADD CONSTRAINT small CHECK (id < 'm');",
        "CREATE UNIQUE INDEX one ON accounts (email);",
        "CREATE TRIGGER t AFTER INSERT ON accounts BEGIN SELECT 1; END;",
        "DELETE FROM mail_tokens;",
        "UPDATE accounts SET email = '';",
        "INSERT INTO accounts (id) VALUES ('a');",
    ],
)
def test_what_the_previous_release_would_stumble_over_is_refused(text: str) -> None:
    assert len(refused(Migration(9000, "9000_x.sql", f"{text}\n"), 8999)) == 1
    # Once the previous release uses it no more, and says so, it may go.
    assert refused(Migration(9000, "9000_x.sql", f"-- needs: 8999\n{text}\n"), 8999) == []
    assert refused(Migration(9000, "9000_x.sql", f"-- needs: 9000\n{text}\n"), 8999) != []


@pytest.mark.parametrize(
    "text",
    [
        "CREATE TABLE colours (id TEXT NOT NULL, UNIQUE (id));\nCREATE UNIQUE INDEX c ON colours (id);",
        "CREATE TABLE colours (id TEXT);\nINSERT INTO colours SELECT id FROM accounts;",
        "ALTER TABLE accounts ADD COLUMN colour TEXT;",
        "ALTER TABLE accounts ADD COLUMN colour TEXT NOT NULL DEFAULT '';",
        "ALTER TABLE accounts ADD COLUMN colour TEXT;\nCREATE UNIQUE INDEX c ON accounts (colour);",
        "CREATE INDEX accounts_by_age ON accounts (created_at);",
        "CREATE VIEW v AS SELECT id FROM accounts;",
    ],
)
def test_what_only_adds_is_taken(text: str) -> None:
    assert refused(Migration(9000, "9000_x.sql", f"{text}\n"), 8999) == []
