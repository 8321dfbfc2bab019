"""What one test leaves behind in PostgreSQL is not there for the next."""

from __future__ import annotations

from contextlib import closing

import psycopg
import pytest

from tests.databases import KeptSchema


async def written(kept: KeptSchema) -> str:
    with kept.lent() as url:
        await kept.write()
        return url


async def leave(kept: KeptSchema, *statements: str) -> None:
    with kept.lent() as url:
        await kept.write()
        with closing(psycopg.connect(url, autocommit=True)) as connection:
            for statement in statements:
                connection.execute(statement.encode())


async def test_rows_are_gone_and_the_schema_is_used_again(postgres_database_url: str) -> None:
    kept = KeptSchema(postgres_database_url)
    first = await written(kept)
    await leave(
        kept,
        "INSERT INTO accounts (id, email, email_key, email_verified, disabled, password_hash,"
        " created_at, updated_at) VALUES ('1', 'a@b', 'a@b', 0, 0, 'x', 0, 0)",
    )
    assert await written(kept) == first
    with closing(psycopg.connect(first)) as connection:
        assert connection.execute("SELECT count(*) FROM accounts").fetchone() == (0,)


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE more (id INT)",
        "DROP TABLE recovery_codes",
        "ALTER TABLE accounts ADD COLUMN more INT",
        "ALTER TABLE accounts ALTER COLUMN email DROP NOT NULL",
        "CREATE INDEX more ON accounts (created_at)",
        "DELETE FROM schema_migrations",
        "UPDATE schema_migrations SET checksum = 'other'",
    ],
)
async def test_one_whose_shape_was_changed_is_left(
    postgres_database_url: str, statement: str
) -> None:
    kept = KeptSchema(postgres_database_url)
    first = await written(kept)
    await leave(kept, statement)
    assert await written(kept) != first


async def test_one_that_somebody_holds_is_left(postgres_database_url: str) -> None:
    kept = KeptSchema(postgres_database_url)
    first = await written(kept)
    with closing(psycopg.connect(first)) as holding:
        holding.execute("LOCK TABLE accounts")
        with kept.lent():
            pass
    assert await written(kept) != first
