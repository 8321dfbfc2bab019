"""What a provider ends while somebody waits for their account's row, on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, cast

import pyotp
import pytest

from gateway.identity.accounts.account_rows import Account
from gateway.identity.accounts.accounts import Accounts
from gateway.identity.factors.factor_kinds import AccountVersion, factor_kinds
from gateway.identity.factors.own_factors import Enrolled, FactorOwner, OwnFactors
from gateway.identity.factors.own_passkeys import AddedPasskey, OwnPasskeys
from gateway.identity.factors.totp import STEP_S, TotpFactor
from gateway.identity.keys.encryption import Sealer
from gateway.identity.mail.notifications import SecurityNotifications
from gateway.identity.providers.ended_sessions import EndedSessions
from gateway.identity.providers.identities import ProviderIdentity
from gateway.identity.providers.linked_identities import (
    LinkedAccount,
    LinkedIdentities,
    LinkRefusal,
)
from gateway.identity.providers.provider_sessions import ProviderSessions, end_sessions_of
from gateway.identity.providers.round_trips import LinkRequest
from gateway.identity.sessions.sessions import SignInSource, lock
from gateway.identity.sign_in.refresh_tokens import RefreshOptions, RefreshTokens, SessionGrant
from gateway.model import Reason
from gateway.stores.protocols import Database, StoreUnavailable
from tests.identity.providers.parts import ISSUER, provider
from tests.identity.test_both_stores import outbox
from tests.identity.test_passkeys import new
from tests.nonces import Moments, Once

SOURCE = SignInSource("browser", "192.0.2.1")
IDP = provider("accounts: create\ntrust_email: true")
THERE = "there-1"

Write = Callable[[], Coroutine[Any, Any, object]]


@dataclass
class Town:
    database: Database
    account: Account
    marks: Once = field(default_factory=Once)
    moments: Moments = field(default_factory=Moments)

    def __post_init__(self) -> None:
        self.ended = EndedSessions(self.marks, self.moments)
        self.letters = SecurityNotifications(self.database, outbox(self.database))
        self.identities = LinkedIdentities(self.database, self.letters, self.ended)
        self.tokens = RefreshTokens(self.database, RefreshOptions())
        self.factors = OwnFactors(
            self.database, TotpFactor(self.database, Sealer(b"k" * 32)), self.letters, self.ended
        )
        self.passkeys = OwnPasskeys(self.database, self.factors, self.letters)

    def identity(self, *roles: str, email: str = "") -> ProviderIdentity:
        return ProviderIdentity(
            IDP,
            "alice",
            email or self.account.email,
            email_verified=True,
            roles=roles,
            session_id=THERE,
            begun_at=0,
        )

    async def session(self) -> str:
        grant = await self.tokens.begin(self.account.id, SOURCE, checked_hash="hash")
        assert isinstance(grant, SessionGrant)
        return grant.session_id

    async def enrolling(self) -> FactorOwner:
        """Who is to enrol a factor in a sign-in by the provider."""
        found = await self.identities.sign_in(self.identity())
        assert isinstance(found, LinkedAccount)
        origin = ProviderSessions(self.database, b"i" * 32).origin(
            self.identity(), found.identity_id
        )
        version = AccountVersion.of(found.account)
        return FactorOwner(self.account.id, secrets.token_hex(8), version, origin)

    async def code(self, owner: FactorOwner) -> str:
        """Which confirms the secret that was drawn for them."""
        drawn = await self.factors.begin_totp(owner)
        assert not isinstance(drawn, Reason)
        async with self.database.read_transaction() as tx:
            return pyotp.TOTP(drawn.secret).generate_otp(int(await tx.now()) // STEP_S)

    async def kept(self) -> list[object]:
        """All that such a write leaves."""
        async with self.database.read_transaction() as tx:
            tables = ("linked_identities", "linked_roles", "totp_factors", "passkeys", "outbox")
            rows = [
                await tx.all(f"SELECT * FROM {table}")
                for table in (*tables, "recovery_codes", "accounts", "changes")
            ]
            kinds = await factor_kinds(tx, self.account.id)
        return [[dict(row) for row in table] for table in rows] + [kinds]


@pytest.fixture
async def town(database: Database) -> Town:
    made = await Accounts(database).register("ann@x.example", "hash", verified=True)
    assert isinstance(made, Account)
    return Town(database, made)


async def role(town: Town) -> Write:
    await town.identities.sign_in(town.identity())
    return lambda: town.identities.sign_in(town.identity("boss"))


async def link_by_address(town: Town) -> Write:
    return lambda: town.identities.sign_in(town.identity("boss"))


async def new_account(town: Town) -> Write:
    return lambda: town.identities.sign_in(town.identity("boss", email="new@x.example"))


async def link(town: Town) -> Write:
    request = LinkRequest(town.account.id, await town.session())
    return lambda: town.identities.link(town.identity(), request)


async def totp(town: Town) -> Write:
    owner = await town.enrolling()
    code = await town.code(owner)
    return lambda: town.factors.confirm_totp(owner, code)


async def passkey(town: Town) -> Write:
    owner = await town.enrolling()
    return lambda: town.passkeys.add(owner, "laptop", new())


Made = Callable[[Town], Awaitable[Write]]

WRITES = (role, link_by_address, new_account, link, totp, passkey)
REFUSED: dict[Made, Reason] = {totp: Reason.INVALID_TOKEN, passkey: Reason.INVALID_TOKEN}
DONE = (LinkedAccount, Enrolled, AddedPasskey)


async def waiting(write: Write) -> asyncio.Task[object]:
    """It has come as far as a row that somebody holds."""
    task = asyncio.ensure_future(write())
    done, _ = await asyncio.wait([task], timeout=0.1)
    assert not done
    return task


@pytest.mark.parametrize("made", [one for one in WRITES if one is not new_account])
@pytest.mark.parametrize("named", ["sid", "sub", "both"])
async def test_what_waited_for_the_account_is_not_written_once_it_has_ended_there(
    town: Town, made: Made, named: str
) -> None:
    write = await made(town)
    before = await town.kept()
    async with town.database.transaction() as tx:
        assert await lock(tx, town.account.id) is not None
        written = await waiting(write)
        if named == "sub":
            await town.ended.note_person(ISSUER, "alice")
        else:
            await town.ended.note(ISSUER, THERE, "alice" if named == "both" else None)
    assert await written is REFUSED.get(made, LinkRefusal.ENDED_THERE)
    assert await town.kept() == before


@pytest.mark.parametrize("made", WRITES)
async def test_nothing_is_written_where_nobody_can_say_what_has_ended_there(
    town: Town, made: Made
) -> None:
    write = await made(town)
    before = await town.kept()
    town.marks.away = True
    with pytest.raises(StoreUnavailable):
        await write()
    assert await town.kept() == before
    town.marks.away = False
    assert isinstance(await write(), DONE)
    assert await town.kept() != before


@pytest.mark.parametrize("made", WRITES)
async def test_the_end_of_another_session_there_keeps_nothing_from_being_written(
    town: Town, made: Made
) -> None:
    write = await made(town)
    await town.ended.note(ISSUER, "there-2", "alice")
    async with town.database.transaction() as tx:
        await end_sessions_of(tx, ISSUER, "x", subject="alice", provider_session="there-2")
    assert isinstance(await write(), DONE)


@pytest.mark.parametrize("made", [role, totp, passkey])
@pytest.mark.parametrize("provider_session", [THERE, None])
async def test_the_end_waits_for_whoever_looked_for_it_before_it_was_noted(
    town: Town, made: Made, provider_session: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it were answered before the write that it comes behind."""
    write, ending = await made(town), cast("asyncio.Task[object] | None", None)

    async def end() -> object:
        async with town.database.transaction() as tx:
            return await end_sessions_of(
                tx, ISSUER, "x", subject="alice", provider_session=provider_session
            )

    async def has_ended(*_: object) -> bool:
        nonlocal ending
        ending = await waiting(end)
        return False

    monkeypatch.setattr(EndedSessions, "has_ended", has_ended)
    monkeypatch.setattr(EndedSessions, "has_ended_of", has_ended)
    assert isinstance(await write(), DONE)
    assert ending is not None
    await ending
