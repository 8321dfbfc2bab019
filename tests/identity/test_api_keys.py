from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.identity.clients.api_keys import ApiKeys, NewApiKey
from gateway.identity.clients.clients import Clients
from gateway.identity.clients.key_authenticator import ApiKeyAuthenticator
from gateway.identity.clients.key_form import looks_like_key, new_key, well_formed
from gateway.model import Call, Change, Credential, CredentialKind, Principal, Reason
from gateway.revocation.revocation_list import RevocationList
from gateway.stores.protocols import Database, StoreUnavailable, Transaction
from tests.databases import Hands, fresh_database

CALL = Call("GET", "h", "/", ("",), "", headers=(), client_ip="192.0.2.1", scheme="http")


class Counting:
    """A database that counts how often it is read, and can be away."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.dialect = database.dialect
        self.reads = 0
        self.away = False
        self.hangs = False

    def transaction(self) -> AbstractAsyncContextManager[Transaction]:
        if self.away:
            raise StoreUnavailable("sql")
        return self._database.transaction()

    def migration_transaction(self, wait_s: float) -> AbstractAsyncContextManager[Transaction]:
        return self._database.migration_transaction(wait_s)

    @asynccontextmanager
    async def read_transaction(self) -> AsyncIterator[Transaction]:
        self.reads += 1
        if self.hangs:
            await asyncio.Event().wait()
        if self.away:
            raise StoreUnavailable("sql")
        async with self._database.read_transaction() as tx:
            yield tx

    async def close(self) -> None:
        await self._database.close()


class House:
    def __init__(self, database: Database, clock: Hands) -> None:
        self.database = Counting(database)
        self.clock = clock
        self.clients = Clients(database)
        self.keys = ApiKeys(database)
        self.revoked = RevocationList()
        self.identifier = ApiKeyAuthenticator(self.database, self.revoked, clock)
        self.client_id = ""

    async def key(self, **more: object) -> NewApiKey:
        if not self.client_id:
            client = await self.clients.create("ci", ["reader", "writer"])
            assert client is not None
            self.client_id = client.client_id
        key = await self.keys.create(self.client_id, **more)  # type: ignore[arg-type]
        assert key is not None
        return key

    async def who(self, text: str, client_ip: str = CALL.client_ip) -> Principal | Reason:
        """As `RequestAuthenticator` asks: the replica judges what the identifier answers."""
        principal = await self.identifier.authenticate(
            Credential(CredentialKind.API_KEY, text), replace(CALL, client_ip=client_ip)
        )
        if isinstance(principal, Reason):
            return principal
        return self.revoked.refusal(principal) or principal

    def apply(self, changes: object) -> None:
        assert isinstance(changes, list | tuple)
        for change in changes:
            assert isinstance(change, Change)
            self.revoked.apply(change, 1e12)


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    clock = Hands()
    async with fresh_database(tmp_path, clock) as opened:
        yield House(opened, clock)


def test_a_key_is_found_by_scanners_and_has_256_bits() -> None:
    key = new_key()
    assert key.startswith("ag_")
    assert len(key) == 3 + 43 + 6
    assert len({new_key() for _ in range(100)}) == 100


@given(st.data())
def test_one_wrong_letter_is_noticed_without_asking_the_store(data: st.DataObject) -> None:
    key = new_key()
    assert well_formed(key)
    place = data.draw(st.integers(0, len(key) - 1))
    letter = data.draw(st.characters(codec="ascii").filter(lambda c: c != key[place]))
    assert not well_formed(key[:place] + letter + key[place + 1 :])


@given(st.text())
def test_any_other_text_is_no_key(text: str) -> None:
    assert not well_formed(text)


def test_a_token_is_not_taken_for_a_key() -> None:
    assert not looks_like_key("eyJhbGciOiJSUzI1NiJ9.e30.c2ln")


async def test_a_key_acts_as_its_client(house: House) -> None:
    key = await house.key()
    principal = await house.who(key.text)
    assert isinstance(principal, Principal)
    assert principal.subject == principal.client_id == house.client_id
    assert (principal.roles, principal.held_roles) == (("reader", "writer"), None)
    assert principal.session_id is None
    assert principal.email is None
    assert principal.scopes is None
    assert principal.token_id == key.id
    assert principal.amr == ("api_key",)


async def test_a_key_has_only_the_roles_and_scopes_it_was_given(house: House) -> None:
    key = await house.key(roles=["reader"], scopes=["orders:read", "orders:*"])
    principal = await house.who(key.text)
    assert isinstance(principal, Principal)
    assert principal.roles == ("reader",)
    assert principal.held_roles == ("reader", "writer")
    assert principal.scopes == ("orders:*", "orders:read")


async def test_a_key_without_any_role_has_none(house: House) -> None:
    principal = await house.who((await house.key(roles=[])).text)
    assert isinstance(principal, Principal)
    assert (principal.roles, principal.held_roles) == ((), ("reader", "writer"))


async def test_a_key_never_gets_a_role_that_its_client_lacks(house: House) -> None:
    with pytest.raises(ValueError, match="does not have the role admin"):
        await house.key(roles=["admin"])


async def test_a_role_that_the_client_loses_the_key_loses(house: House) -> None:
    key = await house.key(roles=["reader", "writer"])
    async with house.database.transaction() as tx:
        await tx.run("DELETE FROM client_roles WHERE role = 'writer'")
    principal = await house.who(key.text)
    assert isinstance(principal, Principal)
    # It has all that the client has.
    assert (principal.roles, principal.held_roles) == (("reader",), None)


@pytest.mark.parametrize("scope", ["", "a b", "a,b", "x" * 129, 'a"b'])
async def test_a_scope_is_an_action(house: House, scope: str) -> None:
    with pytest.raises(ValueError, match="a scope is an action"):
        await house.key(scopes=[scope])


async def test_a_key_rests_as_a_hash(house: House, tmp_path: Path) -> None:
    key = await house.key()
    files = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert key.id.encode() in files
    assert key.text.encode() not in files
    assert key.text not in repr(key)


async def test_a_key_is_read_once_and_then_remembered_for_a_minute(house: House) -> None:
    key = await house.key()
    for _ in range(5):
        await house.who(key.text)
    assert house.database.reads == 1
    house.clock.move(60)
    await house.who(key.text)
    assert house.database.reads == 2


async def test_a_key_that_ended_is_refused_at_once(house: House) -> None:
    key = await house.key()
    assert isinstance(await house.who(key.text), Principal)
    house.apply(await house.keys.end(key.id))
    assert await house.who(key.text) is Reason.TOKEN_REVOKED
    assert await house.keys.end("key-0") is None


async def test_a_key_that_ended_stays_so_when_the_replica_has_forgotten(house: House) -> None:
    key = await house.key()
    await house.keys.end(key.id)
    house.clock.move(10 * 86_400)
    assert await house.who(key.text) is Reason.TOKEN_REVOKED


async def test_revoking_the_client_ends_its_keys(house: House) -> None:
    key = await house.key()
    assert isinstance(await house.who(key.text), Principal)
    house.apply(await house.clients.revoke(house.client_id))
    assert await house.who(key.text) is Reason.TOKEN_REVOKED


async def test_deleting_the_client_ends_its_keys(house: House) -> None:
    key = await house.key()
    assert isinstance(await house.who(key.text), Principal)
    house.apply(await house.clients.delete(house.client_id))
    assert await house.who(key.text) is Reason.TOKEN_REVOKED


async def test_a_key_outlives_the_rotation_of_a_leaked_secret(house: House) -> None:
    key = await house.key()
    await house.who(key.text)
    rotated = await house.clients.rotate(house.client_id, at_once=True)
    assert rotated is not None
    house.apply(rotated[1])
    assert isinstance(await house.who(key.text), Principal)


@pytest.mark.parametrize("back_s", [0, 30])
@pytest.mark.parametrize("end", ["revoke", "delete"])
async def test_a_key_that_was_read_again_ends_with_its_client_whatever_the_time_is(
    house: House, end: str, back_s: int
) -> None:
    """After a change it is read anew, as of the second behind it: another change in that same
    second, or after the clock was set back, would be no later by date."""
    key = await house.key()
    rotated = await house.clients.rotate(house.client_id, at_once=True)
    assert rotated is not None
    house.apply(rotated[1])
    assert isinstance(await house.who(key.text), Principal)
    house.clock.move(-back_s)
    change = house.clients.revoke if end == "revoke" else house.clients.delete
    house.apply(await change(house.client_id))
    assert await house.who(key.text) is Reason.TOKEN_REVOKED


async def test_a_key_expires(house: House) -> None:
    key = await house.key(life_s=3600)
    principal = await house.who(key.text)
    assert isinstance(principal, Principal)
    assert principal.expires_at == key.expires_at
    house.clock.move(3600)
    assert await house.who(key.text) is Reason.TOKEN_EXPIRED


async def test_a_key_that_never_was_is_answered_like_one_that_ended(house: House) -> None:
    await house.key()
    assert await house.who(new_key()) is Reason.TOKEN_REVOKED


async def test_a_slip_of_the_hand_costs_the_store_nothing(house: House) -> None:
    key = await house.key()
    wrong = key.text[:-1] + ("0" if key.text[-1] != "0" else "1")
    assert await house.who(wrong) is Reason.TOKEN_MALFORMED
    assert house.database.reads == 0


async def test_a_store_that_is_away_says_nothing_of_a_key(house: House) -> None:
    key = await house.key()
    house.database.away = True
    assert await house.who(key.text) is Reason.STORE_UNAVAILABLE
    house.database.away = False
    assert isinstance(await house.who(key.text), Principal)


async def test_a_remembered_key_goes_on_while_the_store_is_away(house: House) -> None:
    key = await house.key()
    await house.who(key.text)
    house.database.away = True
    assert isinstance(await house.who(key.text), Principal)


async def test_a_remembered_key_outlives_its_minute_while_the_store_is_away(house: House) -> None:
    key = await house.key()
    await house.who(key.text)
    house.database.away = True
    house.clock.move(14 * 60)
    assert isinstance(await house.who(key.text), Principal)
    house.clock.move(60)
    assert await house.who(key.text) is Reason.STORE_UNAVAILABLE


async def test_a_store_that_is_away_is_asked_for_a_remembered_key_every_five_seconds(
    house: House,
) -> None:
    key = await house.key()
    await house.who(key.text)
    house.database.away = True
    house.clock.move(60)
    reads = house.database.reads
    for _ in range(10):
        assert isinstance(await house.who(key.text), Principal)
        house.clock.move(1)
    assert house.database.reads == reads + 2


async def test_a_remembered_key_does_not_wait_for_a_store_that_hangs(house: House) -> None:
    key = await house.key()
    await house.who(key.text)
    house.database.hangs = True
    house.clock.move(60)
    async with asyncio.timeout(60):
        assert isinstance(await house.who(key.text), Principal)


async def test_a_key_that_ended_is_no_longer_remembered_while_the_store_is_away(
    house: House,
) -> None:
    key = await house.key()
    await house.who(key.text)
    changes = await house.keys.end(key.id)
    house.database.away = True
    house.clock.move(60)
    assert isinstance(await house.who(key.text), Principal)
    house.apply(changes)
    assert not isinstance(await house.who(key.text), Principal)
    assert not isinstance(await house.who(key.text), Principal)


async def test_the_last_use_is_written_by_the_minute(house: House) -> None:
    key = await house.key()
    await house.who(key.text)
    house.database.away = True
    with pytest.raises(StoreUnavailable):
        await house.identifier.write_uses()
    house.database.away = False
    await house.identifier.write_uses()
    (shown,) = await house.keys.of_client(house.client_id)
    assert shown.last_used_at == int(house.clock.at)


class Gate(Counting):
    """Counting, with readers that wait while it is shut."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.open = asyncio.Event()
        self.inside = self.most = 0

    @asynccontextmanager
    async def read_transaction(self) -> AsyncIterator[Transaction]:
        self.inside += 1
        self.most = max(self.most, self.inside)
        try:
            await self.open.wait()
            async with super().read_transaction() as tx:
                yield tx
        finally:
            self.inside -= 1


@pytest.fixture
async def gated(tmp_path: Path) -> AsyncIterator[House]:
    """Its `database` is a Gate, which is shut."""
    clock = Hands()
    async with fresh_database(tmp_path, clock) as opened:
        house = House(opened, clock)
        house.database = Gate(opened)
        house.identifier = ApiKeyAuthenticator(house.database, house.revoked, clock)
        yield house


async def all_wait() -> None:
    """Until nothing is left to do but to wait."""
    for _ in range(20):
        await asyncio.sleep(0)


def gate_of(house: House) -> Gate:
    assert isinstance(house.database, Gate)
    return house.database


async def test_who_makes_up_keys_takes_a_share_of_the_stores_queue(gated: House) -> None:
    await gated.key()
    asked = [asyncio.create_task(gated.who(new_key())) for _ in range(100)]
    await all_wait()
    assert Counter(task.result() for task in asked if task.done()) == {Reason.STORE_BUSY: 84}
    gate_of(gated).open.set()
    answers = Counter(await asyncio.gather(*asked))
    assert answers == {Reason.STORE_BUSY: 84, Reason.TOKEN_REVOKED: 16}
    assert gate_of(gated).most <= 8


async def test_a_key_that_was_good_waits_behind_no_key_that_is_made_up(gated: House) -> None:
    key, gate = await gated.key(), gate_of(gated)
    gate.open.set()
    assert isinstance(await gated.who(key.text), Principal)
    gated.clock.at += 61
    gate.open.clear()
    strangers = [
        asyncio.create_task(gated.who(new_key(), f"198.51.100.{number % 200}"))
        for number in range(400)
    ]
    await all_wait()
    before = gate.inside
    known = asyncio.create_task(gated.who(key.text))
    await all_wait()
    assert gate.inside == before + 1, "it is being read"
    gate.open.set()
    assert isinstance(await known, Principal)
    await asyncio.gather(*strangers)


async def test_a_key_that_ended_has_no_place_before_the_others_any_more(gated: House) -> None:
    key, gate = await gated.key(), gate_of(gated)
    gate.open.set()
    assert isinstance(await gated.who(key.text), Principal)
    gated.apply(await gated.keys.end(key.id))
    assert await gated.who(key.text) is Reason.TOKEN_REVOKED
    gate.open.clear()
    strangers = [
        asyncio.create_task(gated.who(new_key(), f"198.51.100.{number}")) for number in range(20)
    ]
    await all_wait()
    before = gate.inside
    ended = asyncio.create_task(gated.who(key.text))
    await all_wait()
    assert gate.inside == before
    gate.open.set()
    assert await ended is Reason.TOKEN_REVOKED
    await asyncio.gather(*strangers)


async def test_a_crowd_with_one_new_key_asks_once_and_all_are_answered(gated: House) -> None:
    key, gate = await gated.key(), gate_of(gated)
    asked = [asyncio.create_task(gated.who(key.text)) for _ in range(200)]
    await all_wait()
    asked[0].cancel()  # who asked first leaves
    gate.open.set()
    answers = await asyncio.gather(*asked[1:])
    assert all(isinstance(answer, Principal) for answer in answers)
    assert gate.reads == 1
