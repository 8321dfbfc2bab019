"""What most of these tests begin with: a clock that is set, a key ring, a replica; and what those of
sessions do: a database whose clock is set, and an account in it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.identity.accounts.account_rows import Account
from gateway.identity.accounts.accounts import Accounts
from gateway.identity.sign_in.refresh_tokens import RefreshOptions, RefreshTokens
from gateway.stores.protocols import Database
from tests.databases import Hands, fresh_database
from tests.identity.keyring import Gate, HandClock, opened
from tests.identity.presented import Replica


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
async def gate(tmp_path: Path, clock: HandClock) -> AsyncIterator[Gate]:
    async with opened(tmp_path, clock) as database:
        yield await Gate(database, clock).start()


@pytest.fixture
def replica() -> Replica:
    return Replica()


@pytest.fixture
def hands() -> Hands:
    return Hands()


@pytest.fixture
async def store(tmp_path: Path, hands: Hands) -> AsyncIterator[Database]:
    """Its time is that of `hands`."""
    async with fresh_database(tmp_path, hands) as database:
        yield database


@pytest.fixture
async def account(store: Database) -> Account:
    """Of ann, whose password has the hash `hash`."""
    made = await Accounts(store).register("ann@x.example", "hash")
    assert isinstance(made, Account)
    return made


@pytest.fixture
def tokens(store: Database) -> RefreshTokens:
    return RefreshTokens(store, RefreshOptions())
