from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.identity.mail.links import (
    MailToken,
    Purpose,
    find_link,
    redeem_link,
    revoke_links,
    store_link,
    token_text,
)
from gateway.stores.protocols import Database
from tests.databases import NOON, Hands, add_account, fresh_database

KEY = b"k" * 32


@pytest.fixture
def clock() -> Hands:
    return Hands()


@pytest.fixture
async def database(tmp_path: Path, clock: Hands) -> AsyncIterator[Database]:
    async with fresh_database(tmp_path, clock) as opened:
        yield opened


async def kept(
    database: Database, account_id: str, *, purpose: Purpose = Purpose.RESET, mail: str = "mail-1"
) -> str:
    text = token_text(KEY, mail)
    async with database.transaction() as tx:
        token = MailToken(account_id, purpose, "ann@x.example", None, NOON + 600)
        await store_link(tx, text, mail, token)
    return text


async def taken(database: Database, text: str, *purposes: Purpose) -> MailToken | None:
    async with database.transaction() as tx:
        return await redeem_link(tx, text, *purposes)


def test_a_token_has_256_bits_and_follows_from_key_and_letter() -> None:
    assert len(token_text(KEY, "a")) == 43
    assert token_text(KEY, "a") == token_text(KEY, "a")
    assert len({token_text(KEY, "a"), token_text(KEY, "b"), token_text(b"x" * 32, "a")}) == 3


async def test_a_token_works_once(database: Database) -> None:
    text = await kept(database, await add_account(database, "ann@x.example"))
    first = await taken(database, text, Purpose.RESET)
    assert first is not None
    assert first.account_id == "id-of-ann@x.example"
    assert await taken(database, text, Purpose.RESET) is None


async def test_looking_uses_nothing_up(database: Database) -> None:
    text = await kept(database, await add_account(database, "ann@x.example"))
    async with database.read_transaction() as tx:
        assert await find_link(tx, text, Purpose.RESET) is not None
    assert await taken(database, text, Purpose.RESET) is not None


async def test_a_use_that_rolls_back_leaves_the_token_good(database: Database) -> None:
    text = await kept(database, await add_account(database, "ann@x.example"))

    async def use_and_fail() -> None:
        async with database.transaction() as tx:
            assert await redeem_link(tx, text, Purpose.RESET) is not None
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await use_and_fail()
    assert await taken(database, text, Purpose.RESET) is not None


async def test_a_token_is_dead_from_its_last_second_on(database: Database, clock: Hands) -> None:
    text = await kept(database, await add_account(database, "ann@x.example"))
    clock.move(600)
    assert await taken(database, text, Purpose.RESET) is None


async def test_a_link_for_one_purpose_serves_no_other(database: Database) -> None:
    text = await kept(
        database, await add_account(database, "ann@x.example"), purpose=Purpose.VERIFY
    )
    assert await taken(database, text, Purpose.RESET) is None
    assert await taken(database, text, Purpose.VERIFY, Purpose.EMAIL_CHANGE) is not None


async def test_a_link_to_an_address_that_the_account_has_left_is_dead(database: Database) -> None:
    text = await kept(database, await add_account(database, "ann@x.example"))
    async with database.transaction() as tx:
        await tx.run("UPDATE accounts SET email_key = 'new@x.example'")
    assert await taken(database, text, Purpose.RESET) is None


async def test_using_one_link_ends_the_others_for_the_same_purpose(database: Database) -> None:
    ann = await add_account(database, "ann@x.example")
    one, two = await kept(database, ann, mail="1"), await kept(database, ann, mail="2")
    verify = await kept(database, ann, mail="3", purpose=Purpose.VERIFY)
    assert await taken(database, one, Purpose.RESET) is not None
    assert await taken(database, two, Purpose.RESET) is None
    assert await taken(database, verify, Purpose.VERIFY) is not None


async def test_links_can_be_ended_unused(database: Database) -> None:
    ann = await add_account(database, "ann@x.example")
    text = await kept(database, ann)
    async with database.transaction() as tx:
        await revoke_links(tx, ann, Purpose.RESET)
    assert await taken(database, text, Purpose.RESET) is None


async def test_a_stolen_database_holds_no_token(database: Database, tmp_path: Path) -> None:
    text = await kept(database, await add_account(database, "ann@x.example"))
    files = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"id-of-ann" in files
    assert text.encode() not in files


@pytest.mark.parametrize(
    "text", ["", "x", "a" * 43, "a" * 44, "é" * 43, "a" * 42 + "\n", "' OR 1=1 --"]
)
async def test_anything_else_is_no_token(database: Database, text: str) -> None:
    await kept(database, await add_account(database, "ann@x.example"))
    assert await taken(database, text, Purpose.RESET) is None
