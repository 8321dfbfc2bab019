"""What an operator writes who signs out while it waits: for a connection, or for a row."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

import pytest

from gateway.edge.console.clients_page import ClientPageDependencies, ClientsPage
from gateway.edge.console.console import ENDED
from gateway.edge.console.keys_page import KeysPage
from gateway.edge.console.operator_database import OperatorDatabase, OperatorGone, acting_as
from gateway.edge.console.pages import Operator
from gateway.identity.accounts.account_rows import Account
from gateway.identity.accounts.accounts import Accounts
from gateway.identity.clients.api_keys import ApiKeys
from gateway.identity.clients.client_search import ClientSearch
from gateway.identity.clients.clients import Clients, locked
from gateway.identity.clients.held_callers import take_turn
from gateway.identity.keys.encryption import Sealer
from gateway.identity.keys.key_ring import KeyState
from gateway.identity.keys.rotation import KeyRotation
from gateway.identity.revocations import record, refuse_once
from gateway.identity.sessions.sessions import SIGN_OUT, end_every, end_one, lock
from gateway.identity.sign_in.refresh_tokens import RefreshOptions, RefreshTokens
from gateway.model import Change, ChangeKind, Principal, Reason
from gateway.stores.protocols import Database, StoreBusy, StoreUnavailable, Transaction
from tests.edge.console.house import Answered, ConsoleHouse, Told, console_house
from tests.identity.begun_sessions import began, caller_of
from tests.identity.presented import someone


class Asked:
    """The database of the pages, which says when one of them wants to write."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.dialect = database.dialect
        self.to_write = asyncio.Event()
        self.begun = 0
        """Transactions that write, each with a session or waiting for one."""
        self.has_turn = asyncio.Event()
        """In PostgreSQL, where the wait for the one that writes begins behind it."""
        self.written = asyncio.Event()
        self.after_reading: Callable[[], object] = lambda: None
        """Done behind each look that comes after a write."""
        self.migration_transaction = database.migration_transaction
        self.close = database.close

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        self.begun += 1
        self.to_write.set()
        if self.dialect == "sqlite":
            self.has_turn.set()
        async with self._database.transaction() as tx:
            yield Turn(tx, self.has_turn)
        self.written.set()

    @asynccontextmanager
    async def read_transaction(self) -> AsyncIterator[Transaction]:
        async with self._database.read_transaction() as tx:
            yield tx
        if self.written.is_set():
            self.after_reading()


class Turn:
    """Meets `stores.protocols.Transaction`; says when its first statement is done."""

    def __init__(self, transaction: Transaction, has_turn: asyncio.Event) -> None:
        self._transaction = transaction
        self._has_turn = has_turn
        self.all, self.one = transaction.all, transaction.one
        self.many, self.now = transaction.many, transaction.now

    async def run(self, sql: str, /, **parameters: Any) -> int:
        changed = await self._transaction.run(sql, **parameters)
        self._has_turn.set()
        return changed


@dataclass
class Desk:
    """A console whose operator makes keys of one client."""

    house: ConsoleHouse
    database: Database
    asked: Asked
    client_id: str
    caller: Principal

    async def make_key(self, token: str = "", **fields: str) -> Answered:
        given = {"Authorization": f"Bearer {token}"} if token else {}
        form = {"do": "make-key", **fields}
        return await self.house.post(f"/admin/clients/{self.client_id}", form, **given)

    async def keys(self) -> int:
        return len(await ApiKeys(self.database).of_client(self.client_id))


@pytest.fixture
async def desk(database: Database) -> AsyncIterator[Desk]:
    asked = Asked(database)
    guarded = OperatorDatabase(asked)
    dependencies = ClientPageDependencies(ClientSearch(guarded), Clients(guarded), ApiKeys(guarded))
    client = await Clients(database).create("billing")
    account = await Accounts(database).register("ann@example.com", "hash", roles=["admin"])
    assert client is not None
    assert isinstance(account, Account)
    caller = caller_of(await began(RefreshTokens(database, RefreshOptions()), account))
    async with console_house(*ClientsPage(dependencies).pages(), of_pages=database) as house:
        caller.auth_time = int(house.clock.now())
        house.somebody.auth_time = int(house.clock.now())
        house.somebody.others["session"] = caller
        yield Desk(house, database, asked, client.client_id, caller)


async def test_whoever_is_signed_in_writes(desk: Desk) -> None:
    for token in ("session", "token-of-admin", "local-token"):
        answer = await desk.make_key(token)
        assert answer.status == 200, answer.text
    csrf = await desk.house.sign_in()
    assert (await desk.make_key(csrf=csrf)).status == 200
    assert await desk.keys() == 4


async def test_those_who_wait_for_their_turn_leave_the_sessions_of_the_store_to_others(
    desk: Desk,
) -> None:
    async with desk.database.transaction() as tx:
        await locked(tx, desk.client_id)
        waiting = [asyncio.ensure_future(desk.make_key("session")) for _ in range(4)]
        await desk.asked.to_write.wait()
        await asyncio.wait(waiting, timeout=0.1)
        assert desk.asked.begun == 1
    assert [(await answer).status for answer in waiting] == [200] * 4
    assert await desk.keys() == 4


async def test_an_action_whose_turn_does_not_come_is_told_to_come_again(database: Database) -> None:
    guarded = OperatorDatabase(database, turn_within_s=0.01)
    with acting_as(Operator("local-token", "x", frozenset())):
        async with guarded.transaction():
            with pytest.raises(StoreBusy):
                async with guarded.transaction():
                    pass
        async with guarded.transaction() as tx:
            assert await tx.now() > 0


async def test_the_turn_of_other_workers_is_waited_for_and_never_told_as_an_outage(
    database: Database,
) -> None:
    if database.dialect == "sqlite":
        return  # whoever writes, writes alone
    asked, hasty = OperatorDatabase(database), OperatorDatabase(database, turn_within_s=0.05)

    async def act() -> float:
        async with asked.transaction() as tx:
            return await tx.now()

    with acting_as(Operator("local-token", "x", frozenset())):
        async with database.transaction() as other:
            await take_turn(other)
            with pytest.raises(StoreBusy):
                async with hasty.transaction():
                    pass
            waiting = asyncio.ensure_future(act())
            # Longer than any statement is let take.
            done, _ = await asyncio.wait([waiting], timeout=1.4)
            assert not done
        assert await waiting > 0
        async with hasty.transaction() as tx:
            waits = await tx.one("SELECT current_setting('lock_timeout') AS value")
    assert waits == {"value": "0"}


async def test_many_workers_take_their_turns_and_none_is_told_of_an_outage(
    database: Database,
) -> None:
    """One behind the other, each for a while, as long as anybody is let wait."""
    if database.dialect == "sqlite":
        return  # whoever writes, writes alone
    workers = [OperatorDatabase(database) for _ in range(6)]
    going_on = asyncio.get_running_loop().time() + 3.0

    async def act(worker: OperatorDatabase) -> int:
        done = 0
        while asyncio.get_running_loop().time() < going_on:
            with suppress(StoreBusy):
                async with worker.transaction() as tx:
                    await tx.one("SELECT pg_sleep(0.4)")
                    done += 1
        return done

    with acting_as(Operator("local-token", "x", frozenset())):
        assert sum(await asyncio.gather(*map(act, workers))) > 0


@pytest.mark.parametrize("how", ["sign-out", "sign-out of all", "disabled"])
async def test_who_signs_out_while_an_action_waits_has_not_done_it(desk: Desk, how: str) -> None:
    session_id, account_id = desk.caller.session_id or "", desk.caller.subject
    async with desk.database.transaction() as tx:
        await lock(tx, account_id)
        waiting = asyncio.ensure_future(desk.make_key("session"))
        await desk.asked.to_write.wait()
        if how == "sign-out":
            await end_one(tx, session_id, SIGN_OUT)
        else:
            await end_every(tx, account_id, how)
    answer = await waiting
    assert answer.status == 401
    assert "ag_" not in answer.text
    assert await desk.keys() == 0
    assert desk.house.events.all == []


async def test_a_session_of_which_no_row_is_kept_writes_nothing_behind_its_end(desk: Desk) -> None:
    async with desk.database.transaction() as tx:
        await locked(tx, desk.client_id)
        waiting = asyncio.ensure_future(desk.make_key("token-of-admin"))
        await desk.asked.to_write.wait()
        await refuse_once(tx, ChangeKind.SESSION, "s")
    assert (await waiting).status == 401
    assert await desk.keys() == 0


async def test_who_signs_out_of_the_local_token_while_an_action_waits_has_not_done_it(
    desk: Desk,
) -> None:
    csrf = await desk.house.sign_in()
    async with desk.database.transaction() as tx:
        await locked(tx, desk.client_id)
        waiting = asyncio.ensure_future(desk.make_key(csrf=csrf))
        await desk.asked.has_turn.wait()
        leaving = asyncio.ensure_future(desk.house.post("/admin/sign-out", {"csrf": csrf}))
        if desk.database.dialect == "postgresql":
            assert (await leaving).status == 303
    # In SQLite both wait for the one connection that writes, and the action came first.
    assert (await leaving).status == 303
    answer = await waiting
    if desk.database.dialect == "postgresql":
        assert answer.status == 401
        assert "ag_" not in answer.text
        assert await desk.keys() == 0
    desk.house.told.sessions.clear()  # a worker that has not been told
    kept = await desk.keys()
    assert (await desk.make_key(csrf=csrf)).status == 401
    assert await desk.keys() == kept


async def test_the_sign_out_of_the_local_token_waits_for_no_other_operator(desk: Desk) -> None:
    if desk.database.dialect == "sqlite":
        return  # whoever writes, writes alone
    csrf = await desk.house.sign_in()
    async with desk.database.transaction() as tx:
        await take_turn(tx)
        assert (await desk.house.post("/admin/sign-out", {"csrf": csrf})).status == 303


async def test_an_action_that_stands_still_gives_its_turn_up(database: Database) -> None:
    """As of a worker that is stopped, or whose network is cut."""
    if database.dialect == "sqlite":
        return  # the turn ends with the process
    taken = asyncio.Event()

    async def stand_still() -> None:
        async with OperatorDatabase(database).transaction() as held:
            async with database.migration_transaction(8) as tx:
                await take_turn(tx)
            taken.set()
            await held.now()

    with acting_as(Operator("local-token", "x", frozenset())), pytest.raises(StoreUnavailable):
        await stand_still()
    assert taken.is_set()


@pytest.mark.parametrize("reason", sorted(ENDED))
async def test_who_signs_out_before_the_answer_sees_no_secret(desk: Desk, reason: Reason) -> None:
    """It was written while they were signed in, and is told to the audit log and to them."""
    desk.asked.after_reading = lambda: desk.house.somebody.others.update(session=reason)
    answer = await desk.make_key("session")
    assert answer.status in (401, 403)
    assert "It was done" in answer.text
    assert "was not shown" in answer.text
    assert "ag_" not in answer.text
    assert await desk.keys() == 1
    assert [event.detail["change"] for event in desk.house.events.all] == ["key made"]


@pytest.mark.parametrize(
    "reason",
    [Reason.REPLICA_STALE, Reason.STORE_UNAVAILABLE, Reason.STORE_BUSY, Reason.TOKEN_EXPIRED],
)
async def test_a_secret_is_shown_to_who_has_not_ended(desk: Desk, reason: Reason) -> None:
    """What was made is shown once: it would be lost by what passes."""
    desk.asked.after_reading = lambda: desk.house.somebody.others.update(session=reason)
    answer = await desk.make_key("session")
    assert answer.status == 200
    assert "ag_" in answer.text


async def test_what_was_done_and_not_shown_is_told_to_be_unconfirmed_too(desk: Desk) -> None:
    desk.house.told.confirms = False
    ended = Reason.TOKEN_REVOKED
    desk.asked.after_reading = lambda: desk.house.somebody.others.update(session=ended)
    path = f"/admin/clients/{desk.client_id}"
    form = {"do": "rotate", "at-once": "1"}
    answer = await desk.house.post(path, form, Authorization="Bearer session")
    assert answer.status == 401
    assert "It was done" in answer.text
    assert "not yet confirmed" in answer.text


@pytest.mark.parametrize("path", ["/admin", "/admin/api/outbox"])
async def test_who_signs_out_while_mails_are_read_sees_none(desk: Desk, path: str) -> None:
    shown = await desk.house.ask(path, Authorization="Bearer session")
    assert "a@example.com" in shown.text
    desk.house.mails.meanwhile = lambda: desk.house.somebody.others.pop("session", None)
    answer = await desk.house.ask(path, Authorization="Bearer session")
    assert answer.status == 401
    assert "a@example.com" not in answer.text
    assert len(desk.house.events.mail_reads) == 1


async def test_a_key_that_was_revoked_is_told_so_whoever_signs_out_until_it_is_confirmed(
    database: Database,
) -> None:
    class SignedOutMeanwhile:
        """Meets `stores.protocols.RevocationPublisher`."""

        async def publish(self, changes: Sequence[Change]) -> bool:
            async with database.transaction() as tx:
                await refuse_once(tx, ChangeKind.TOKEN, "t")
            return True

    def rotation(store: Database) -> KeyRotation:
        sealer, publisher = Sealer(b"k" * 32), SignedOutMeanwhile()
        return KeyRotation(
            store, sealer, publisher, alg="ES256", max_token_life_s=900, confirmations=database
        )

    await rotation(database).ensure()
    kid = (await rotation(database).listing())[0].kid
    of_operators = rotation(OperatorDatabase(database))
    with acting_as(Operator("u", "x", frozenset(), caller=someone())):
        revoked = await of_operators.revoke(kid)
        assert revoked is not None
        assert revoked.confirmed
        with pytest.raises(OperatorGone):
            await of_operators.revoke(kid)


async def test_a_signing_key_that_is_revoked_while_an_action_waits_stops_it(desk: Desk) -> None:
    if desk.database.dialect == "sqlite":
        return  # whoever writes, writes alone
    async with desk.database.transaction() as tx:
        await locked(tx, desk.client_id)
        waiting = asyncio.ensure_future(desk.make_key("session"))
        await desk.asked.has_turn.wait()
        await asyncio.wait([waiting], timeout=0.1)
        async with desk.database.transaction() as other:
            await record(other, ChangeKind.KEY, desk.caller.kid, Reason.TOKEN_REVOKED)
    assert (await waiting).status == 401
    assert await desk.keys() == 0
    assert desk.house.events.all == []


async def test_an_operator_revokes_the_key_that_signed_their_own_token(database: Database) -> None:
    def rotation(store: Database) -> KeyRotation:
        return KeyRotation(
            store,
            Sealer(b"k" * 32),
            Told(),
            alg="ES256",
            max_token_life_s=900,
            confirmations=database,
        )

    await rotation(database).ensure()
    kids = [row.kid for row in await rotation(database).listing()]
    pages = KeysPage(rotation(OperatorDatabase(database))).pages()
    async with console_house(*pages, of_pages=database) as house:
        caller = replace(someone(), kid=kids[0], auth_time=int(house.clock.now()), roles=("admin",))
        house.somebody.others["own"] = caller
        for kid, status in ((kids[0], 303), (kids[1], 401)):
            form = {"do": "revoke", "kid": kid, "confirm-kid": kid}
            assert (
                await house.post("/admin/keys", form, Authorization="Bearer own")
            ).status == status
        assert [event.detail["kid"] for event in house.events.all] == [kids[0]]
    states = {row.kid: row.state for row in await rotation(database).listing()}
    assert states[kids[0]] is KeyState.GONE
    assert states[kids[1]] is not KeyState.GONE


async def test_what_nobody_asks_for_is_not_written(database: Database) -> None:
    guarded = OperatorDatabase(database)
    with pytest.raises(RuntimeError):
        async with guarded.transaction():
            pass
    with acting_as(Operator("local-token", "x", frozenset())):
        async with guarded.transaction() as tx:
            assert await tx.now() > 0
