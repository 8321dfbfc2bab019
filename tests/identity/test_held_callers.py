"""What somebody calls with is held while something is written for them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from gateway.identity.accounts.account_rows import Account
from gateway.identity.accounts.accounts import Accounts
from gateway.identity.clients.api_keys import AMR, ApiKeys, client_principal
from gateway.identity.clients.clients import Clients
from gateway.identity.clients.held_callers import HeldCaller, hold, take_turn
from gateway.identity.clients.personal_keys import (
    KeyLimits,
    NewPersonalKey,
    PersonalKeys,
    personal_principal,
)
from gateway.identity.opaque_tokens import hash_token
from gateway.identity.revocations import record, refuse
from gateway.identity.sessions.restore import ANYBODY
from gateway.identity.sessions.sessions import Sessions
from gateway.identity.sign_in.refresh_tokens import RefreshOptions, RefreshTokens
from gateway.model import Change, ChangeKind, Principal, Reason
from gateway.stores.protocols import Database
from tests.identity.begun_sessions import began, caller_of

End = Callable[[], Awaitable[object]]


class People:
    """Two operators with a session each, and what else somebody may call with."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.accounts, self.sessions = Accounts(database), Sessions(database)
        self.clients, self.api_keys = Clients(database), ApiKeys(database)
        self.personal_keys = PersonalKeys(database)
        self.tokens = RefreshTokens(database, RefreshOptions())

    async def enter(self) -> None:
        self.ann, self.bob = [await self.session_of(name) for name in ("ann", "bob")]
        client = await self.clients.create("scripts", ["admin"])
        assert client is not None
        self.client_id = client.client_id
        api_key = await self.api_keys.create(self.client_id)
        personal = await self.personal_keys.create(self.ann, "laptop", KeyLimits(), 900)
        assert api_key is not None
        assert isinstance(personal, NewPersonalKey)
        async with self.database.read_transaction() as tx:
            of_client = await client_principal(tx, hash_token(api_key.text))
            of_person = await personal_principal(tx, hash_token(personal.text))
        assert isinstance(of_client, Principal)
        assert isinstance(of_person, Principal)
        self.of_client, self.of_person = of_client, of_person

    async def session_of(self, name: str) -> Principal:
        account = await self.accounts.register(f"{name}@example.com", "hash", roles=["admin"])
        assert isinstance(account, Account)
        return caller_of(await began(self.tokens, account))

    def callers(self) -> dict[str, Principal]:
        return {
            "session": self.ann,
            "personal key": self.of_person,
            "API key": self.of_client,
            "imported key": stranger(self.ann, session_id="elsewhere"),
            "other issuer": stranger(self.ann, subject="idp:ann", session_id=None),
        }

    async def refusal(self, caller: Principal) -> Reason | None:
        async with self.database.transaction() as tx:
            await take_turn(tx)
            held = await hold(tx, caller)
            return held if isinstance(held, Reason) else await held.refusal(tx)

    def ends(self) -> dict[tuple[str, str], End]:
        """Whose credential ends by what, whoever asks for it."""
        ann, client, person = self.ann.subject, self.of_client, self.of_person
        session_id, database = self.ann.session_id or "", self.database
        return {
            ("session", "sign-out"): lambda: self.sessions.sign_out(self.ann, everywhere=False),
            ("session", "sign-out of all"): lambda: self.sessions.sign_out(
                self.ann, everywhere=True
            ),
            ("session", "end by an operator"): lambda: self.sessions.end(session_id, "operator"),
            ("session", "end of all"): lambda: self.accounts.end_all(ann, "operator"),
            ("session", "disabled"): lambda: self.accounts.disable(ann),
            ("session", "deleted"): lambda: self.accounts.delete(ann),
            ("session", "role taken"): lambda: self.accounts.revoke(ann, "admin"),
            ("session", "token refused"): lambda: refuse(
                database, ChangeKind.TOKEN, self.ann.token_id
            ),
            ("session", "signing key refused"): lambda: recorded(database, ChangeKind.KEY, "k"),
            ("session", "restored"): lambda: recorded(database, ChangeKind.EVERYONE, ANYBODY),
            ("personal key", "key ended"): lambda: self.personal_keys.end(person.token_id),
            ("personal key", "disabled"): lambda: self.accounts.disable(ann),
            ("personal key", "role taken"): lambda: self.accounts.revoke(ann, "admin"),
            ("API key", "key ended"): lambda: self.api_keys.end(client.token_id),
            ("API key", "client revoked"): lambda: self.clients.revoke(self.client_id),
            ("API key", "client deleted"): lambda: self.clients.delete(self.client_id),
            ("imported key", "sign-out"): lambda: self.sessions.sign_out(
                self.callers()["imported key"], everywhere=False
            ),
            ("imported key", "disabled"): lambda: self.accounts.disable(ann),
            ("other issuer", "session ended there"): lambda: recorded(
                database, ChangeKind.SUBJECT, "idp:ann -"
            ),
        }


def stranger(principal: Principal, *, subject: str = "", session_id: str | None) -> Principal:
    """Who has a token of an imported key, or of another issuer."""
    return Principal(
        subject or principal.subject,
        ("admin",),
        session_id,
        "jti-1",
        None,
        kid="other",
        issued_at=principal.issued_at,
        expires_at=principal.expires_at,
        issuer="idp" if subject else principal.issuer,
    )


async def recorded(database: Database, kind: ChangeKind, target: str) -> Change:
    async with database.transaction() as tx:
        return await record(tx, kind, target, Reason.TOKEN_REVOKED)


@pytest.fixture
async def people(database: Database) -> People:
    made = People(database)
    await made.enter()
    return made


CALLERS = ("session", "personal key", "API key", "imported key", "other issuer")
ENDS = (
    ("session", "sign-out"),
    ("session", "sign-out of all"),
    ("session", "end by an operator"),
    ("session", "end of all"),
    ("session", "disabled"),
    ("session", "deleted"),
    ("session", "role taken"),
    ("session", "token refused"),
    ("session", "signing key refused"),
    ("session", "restored"),
    ("personal key", "key ended"),
    ("personal key", "disabled"),
    ("personal key", "role taken"),
    ("API key", "key ended"),
    ("API key", "client revoked"),
    ("API key", "client deleted"),
    ("imported key", "sign-out"),
    ("imported key", "disabled"),
    ("other issuer", "session ended there"),
)
HELD_BY_NO_ROW = {"token refused", "signing key refused", "restored", "session ended there"}
"""What is found, and does not wait: nothing that is there stands for it."""


@pytest.mark.parametrize("whose", ["imported key", "other issuer"])
async def test_a_token_that_says_it_is_an_api_key_is_held_as_the_token_that_it_is(
    people: People, whose: str
) -> None:
    """`amr` is what another issuer, or whoever signs by an imported key, writes there."""
    caller = people.callers()[whose]
    caller.amr = AMR
    assert await people.refusal(caller) is None
    await refuse(people.database, ChangeKind.TOKEN, caller.token_id)
    assert await people.refusal(caller) is Reason.TOKEN_REVOKED


async def test_every_end_is_tried_here(people: People) -> None:
    assert tuple(people.ends()) == ENDS
    assert tuple(people.callers()) == CALLERS


@pytest.mark.parametrize("who", CALLERS)
async def test_what_nobody_has_ended_writes(people: People, who: str) -> None:
    assert await people.refusal(people.callers()[who]) is None


@pytest.mark.parametrize(("who", "how"), ENDS)
async def test_what_has_ended_writes_no_more(people: People, who: str, how: str) -> None:
    await people.ends()[who, how]()
    outdated = how == "role taken"
    expected = Reason.TOKEN_OUTDATED if outdated else Reason.TOKEN_REVOKED
    assert await people.refusal(people.callers()[who]) is expected


@pytest.mark.parametrize(
    ("who", "how"),
    [end for end in ENDS if end[1] not in HELD_BY_NO_ROW and end[0] != "imported key"],
)
async def test_what_ends_meanwhile_waits_until_all_is_written(
    people: People, who: str, how: str
) -> None:
    async with people.database.transaction() as tx:
        await take_turn(tx)
        held = await hold(tx, people.callers()[who])
        assert isinstance(held, HeldCaller)
        ending = asyncio.ensure_future(people.ends()[who, how]())
        done, _ = await asyncio.wait([ending], timeout=0.1)
        assert not done
        assert await held.refusal(tx) is None
    assert await ending


async def test_what_no_row_stands_for_is_asked_for_at_the_end_too(people: People) -> None:
    if people.database.dialect == "sqlite":
        return  # whoever writes, writes alone
    for who, kind, target in (
        ("session", ChangeKind.TOKEN, people.ann.token_id),
        ("imported key", ChangeKind.SESSION, "elsewhere"),
        ("other issuer", ChangeKind.SUBJECT, "idp:ann"),
        ("session", ChangeKind.KEY, "k"),
        ("imported key", ChangeKind.KEY, "other"),
        ("API key", ChangeKind.EVERYONE, ANYBODY),
    ):
        async with people.database.transaction() as tx:
            await take_turn(tx)
            held = await hold(tx, people.callers()[who])
            assert isinstance(held, HeldCaller)
            await recorded(people.database, kind, target)
            assert await held.refusal(tx) is Reason.TOKEN_REVOKED
            await tx.run("DELETE FROM changes")


async def test_whoever_ends_what_they_call_with_has_done_it(people: People) -> None:
    async with people.database.transaction() as tx:
        await take_turn(tx)
        held = await hold(tx, people.ann)
        assert isinstance(held, HeldCaller)
        await tx.run("UPDATE families SET ended_at = 1 WHERE id = :id", id=people.ann.session_id)
        await record(tx, ChangeKind.SESSION, people.ann.session_id or "", Reason.TOKEN_REVOKED)
        await record(tx, ChangeKind.SUBJECT, people.ann.subject, Reason.TOKEN_REVOKED)
        assert await held.refusal(tx) is None


async def test_who_revokes_the_key_that_signed_their_token_has_done_it(people: People) -> None:
    async with people.database.transaction() as tx:
        await take_turn(tx)
        held = await hold(tx, people.ann)
        assert isinstance(held, HeldCaller)
        await record(tx, ChangeKind.KEY, "k", Reason.TOKEN_REVOKED)
        assert await held.refusal(tx, ending=[ChangeKind.KEY]) is None
        assert await held.refusal(tx) is Reason.TOKEN_REVOKED


async def test_two_who_act_on_each_other_wait_for_nobody_who_waits_for_them(
    people: People,
) -> None:
    first_holds = asyncio.Event()

    async def disable(caller: Principal, target: Principal) -> Reason | None:
        async with people.database.transaction() as tx:
            await take_turn(tx)
            held = await hold(tx, caller)
            if isinstance(held, Reason):
                return held
            if not first_holds.is_set():
                first_holds.set()
                await asyncio.wait([other], timeout=0.1)
            await tx.run("UPDATE accounts SET disabled = 1 WHERE id = :id", id=target.subject)
            await record(tx, ChangeKind.SUBJECT, target.subject, Reason.TOKEN_REVOKED)
            return None

    async def after_the_first() -> Reason | None:
        await first_holds.wait()
        return await disable(people.bob, people.ann)

    other = asyncio.ensure_future(after_the_first())
    assert await disable(people.ann, people.bob) is None
    assert await other is Reason.TOKEN_REVOKED
