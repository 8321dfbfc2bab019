"""A database of the shape that this version knows, and a clock that tests can turn."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from gateway.identity.accounts.accounts import replace_password
from gateway.model import Change
from gateway.stores.migrations import upgrade
from gateway.stores.open_database import open_database
from gateway.stores.protocols import Database

NOON = 1_800_000_000


class Hands:
    """Meets `model.Clock`; both hands move only when they are moved."""

    def __init__(self, at: float = NOON) -> None:
        self.at = at

    def now(self) -> float:
        return self.at

    def steady(self) -> float:
        return self.at

    def move(self, seconds: float) -> None:
        self.at += seconds


@asynccontextmanager
async def fresh_database(folder: Path, clock: Hands | None = None) -> AsyncIterator[Database]:
    database = open_database(f"sqlite:///{folder}/gateway.db", clock=clock)
    try:
        await upgrade(database)
        yield database
    finally:
        await database.close()


async def add_account(
    database: Database, email: str, *, verified: bool = False, disabled: bool = False
) -> str:
    """Its id.  The address stands for its own key: give it in lower case."""
    async with database.transaction() as tx:
        await tx.run(
            "INSERT INTO accounts (id, email, email_key, email_verified, disabled, password_hash,"
            " created_at, updated_at) VALUES (:id, :email, :email, :verified, :disabled, 'old',"
            " 0, 0)",
            id=f"id-of-{email}",
            email=email,
            verified=int(verified),
            disabled=int(disabled),
        )
    return f"id-of-{email}"


async def reset_password(
    database: Database, account_id: str, password_hash: str
) -> Sequence[Change]:
    """As a link in a mail does."""
    async with database.transaction() as tx:
        return await replace_password(tx, account_id, password_hash)
