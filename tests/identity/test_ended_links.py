"""What an owner or an operator has ended is not brought back by what was begun before."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable

import pyotp
import pytest

from gateway.identity.accounts.account_rows import Account
from gateway.identity.accounts.accounts import Accounts, Proof
from gateway.identity.accounts.email_change import EmailChanges
from gateway.identity.accounts.registration import EmailConfirmation, Registrations
from gateway.identity.factors.own_factors import Enrolled, FactorOwner, OwnFactors
from gateway.identity.factors.totp import STEP_S, NewTotp, TotpFactor
from gateway.identity.keys.encryption import Sealer
from gateway.identity.mail.links import Purpose
from gateway.identity.mail.mail_requests import MailRequest, queue_link
from gateway.identity.mail.notifications import SecurityNotifications
from gateway.identity.sessions.sessions import Sessions, SignInSource
from gateway.identity.sign_in.refresh_tokens import RefreshOptions, RefreshTokens, SessionGrant
from gateway.model import Principal, Reason
from gateway.stores.protocols import Database
from tests.databases import reset_password
from tests.identity.test_both_stores import links, outbox, unique

# An invitation is of somebody who has no account yet.
OF_ACCOUNTS = [purpose for purpose in Purpose if purpose is not Purpose.INVITATION]
ORIGIN = SignInSource("a browser", "192.0.2.1")


class House:
    """One account, and whoever is signed in to it."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.post = outbox(database)
        self.accounts = Accounts(database)
        self.tokens = RefreshTokens(database, RefreshOptions())
        self.registrations = Registrations(database, self.post)
        self.moves = EmailChanges(database, self.post)
        self.email = unique("ann") + "@x.example"
        self.id = ""

    async def open(self, *, verified: bool = True) -> House:
        account = await self.accounts.register(self.email, "first", verified=verified)
        assert isinstance(account, Account)
        self.id = account.id
        return self

    async def sign_in(self, checked: str = "first") -> SessionGrant:
        grant = await self.tokens.begin(self.id, ORIGIN, checked_hash=checked)
        assert isinstance(grant, SessionGrant)
        return grant

    async def proof(self, checked: str = "first") -> Proof:
        return Proof((await self.sign_in(checked)).session_id, checked)

    async def hash(self) -> str | None:
        account = await self.accounts.by_id(self.id)
        return account.password_hash if account else None

    async def link(self, purpose: Purpose) -> str:
        """A link of the account that is good now."""
        recipient = self.email
        if purpose is Purpose.EMAIL_CHANGE:
            recipient = unique("new") + "@x.example"
            assert await self.moves.request(self.id, recipient, await self.proof()) is None
        elif purpose is Purpose.RESET:
            await self.registrations.forgot(self.email, "the owner")
        else:
            await self.registrations.resend(self.email, "the owner")
        return (await links(self.post, recipient))[0]

    async def good(self, purpose: Purpose, link: str) -> bool:
        """Whether the link still does what it allows."""
        if purpose is Purpose.EMAIL_CHANGE:
            return await self.moves.confirm(link) is not None
        if purpose is Purpose.RESET:
            return await self.registrations.reset(link, "by the link") is not None
        checked = EmailConfirmation(self.id, self.email, await self.hash())
        return not isinstance(await self.registrations.verify(link, checked), Reason)


@pytest.fixture
async def house(database: Database) -> House:
    return await House(database).open()


async def reset(house: House, proof: Proof) -> None:
    del proof
    await reset_password(house.database, house.id, "the owner's")


async def sign_out(house: House, proof: Proof) -> None:
    await Sessions(house.database).end(proof.session_id, "logout")


async def disable(house: House, proof: Proof) -> None:
    del proof
    await house.accounts.disable(house.id)


async def delete(house: House, proof: Proof) -> None:
    del proof
    await house.accounts.delete(house.id)


async def end_all(house: House, proof: Proof) -> None:
    del proof
    await house.accounts.end_all(house.id, "operator")


async def change(house: House, proof: Proof) -> None:
    del proof
    results = await house.accounts.change_password(house.id, "the owner's", await house.proof())
    assert not isinstance(results, Reason)


@pytest.mark.parametrize("ending", [reset, sign_out, disable, delete, end_all, change])
async def test_a_change_that_was_begun_before_its_end_writes_nothing(
    house: House, ending: Callable[[House, Proof], Awaitable[None]]
) -> None:
    proof = await house.proof()
    await ending(house, proof)
    before = await house.accounts.by_id(house.id)
    new = unique("thief") + "@x.example"
    for results in (
        await house.accounts.change_password(house.id, "the thief's", proof),
        await house.moves.request(house.id, new, proof),
    ):
        assert results in (Reason.TOKEN_REVOKED, Reason.INVALID_CREDENTIALS)
    assert await house.accounts.by_id(house.id) == before
    assert await links(house.post, new) == []


@pytest.mark.parametrize("by_refresh_token", [True, False])
async def test_a_sign_out_of_all_by_an_ended_session_stops_a_move_of_one_that_has_left(
    house: House, by_refresh_token: bool
) -> None:
    """A thief ends the owner's session, asks for a move and signs out."""
    owner, sessions = await house.sign_in(), Sessions(house.database)
    await sessions.end(owner.session_id, "logout", owner=house.id)
    link = await house.link(Purpose.EMAIL_CHANGE)
    for live in await sessions.find_active(house.id):
        await sessions.sign_out_session(live, everywhere=False)
    if by_refresh_token:
        ended = await sessions.get(owner.session_id)
        assert ended is not None
        await sessions.sign_out_session(ended, everywhere=True)
    else:
        token = Principal(
            subject=house.id,
            roles=(),
            session_id=owner.session_id,
            token_id="jti",
            client_id="authgate",
            kid="k",
            issued_at=owner.issued_at,
            expires_at=owner.issued_at + 900,
        )
        await sessions.sign_out(token, everywhere=True)
    assert not await house.good(Purpose.EMAIL_CHANGE, link)


async def test_of_ten_changes_at_once_one_wins_and_its_password_is_the_one(house: House) -> None:
    proofs = [await house.proof() for _ in range(5)] + [await house.proof()] * 5
    results = await asyncio.gather(
        *(
            house.accounts.change_password(house.id, f"new {number}", proof)
            for number, proof in enumerate(proofs)
        )
    )
    won = [number for number, answer in enumerate(results) if not isinstance(answer, Reason)]
    assert len(won) == 1
    assert await house.hash() == f"new {won[0]}"
    live = await Sessions(house.database).find_active(house.id)
    assert [family.id for family in live] == [proofs[won[0]].session_id]


@pytest.mark.parametrize("purpose", OF_ACCOUNTS)
@pytest.mark.parametrize("ending", [disable, end_all])
async def test_what_an_operator_ends_takes_every_mailed_link_with_it(
    database: Database, purpose: Purpose, ending: Callable[[House, Proof], Awaitable[None]]
) -> None:
    house = await House(database).open(verified=purpose is not Purpose.VERIFY)
    link = await house.link(purpose)
    await ending(house, Proof("", None))
    await house.accounts.enable(house.id)
    assert not await house.good(purpose, link)


@pytest.mark.parametrize("purpose", OF_ACCOUNTS)
async def test_a_letter_that_waits_for_its_try_brings_no_ended_link_back(
    database: Database, purpose: Purpose
) -> None:
    house = await House(database).open(verified=purpose is not Purpose.VERIFY)
    link = await house.link(purpose)
    await house.accounts.end_all(house.id, "operator")
    async with database.transaction() as tx:  # as if nobody knew whether it had arrived
        await tx.run("UPDATE outbox SET prepared_at = NULL, claimed_until = 0, due_at = 0")
    while await house.post.drain():
        pass
    assert not await house.good(purpose, link)


async def test_a_link_that_is_written_while_it_is_ended_is_ended(house: House) -> None:
    """The outbox and an operator at the same moment, in whichever order."""
    for _ in range(10):
        async with house.database.transaction() as tx:
            await queue_link(tx, Purpose.RESET, house.email, MailRequest(secrets.token_hex(4)))
        await asyncio.gather(house.post.drain(), house.accounts.end_all(house.id, "operator"))
        async with house.database.read_transaction() as tx:
            rows = await tx.all("SELECT * FROM mail_tokens WHERE account_id = :id", id=house.id)
        assert rows == []


async def test_a_signing_out_everywhere_stops_a_move_to_another_address(house: House) -> None:
    link = await house.link(Purpose.EMAIL_CHANGE)
    family = await Sessions(house.database).get((await house.sign_in()).session_id)
    assert family is not None
    await Sessions(house.database).sign_out_session(family, everywhere=True)
    assert await house.moves.confirm(link) is None


async def by_its_owner(house: House, thief: SessionGrant) -> None:
    await Sessions(house.database).end(thief.session_id, "ended by its owner", owner=house.id)


async def by_an_operator(house: House, thief: SessionGrant) -> None:
    await Sessions(house.database).end(thief.session_id, "operator")


async def by_a_reuse(house: House, thief: SessionGrant) -> None:
    for address in ("192.0.2.1", "198.51.100.7"):
        await house.tokens.rotate(thief.refresh_token, SignInSource("a browser", address))


@pytest.mark.parametrize("ending", [by_its_owner, by_an_operator, by_a_reuse])
async def test_a_session_that_somebody_ends_moves_the_account_nowhere(
    house: House, ending: Callable[[House, SessionGrant], Awaitable[None]]
) -> None:
    """Of a thief who has the password and no second factor: they do not come back, and their link
    would."""
    thief = await house.sign_in()
    new = unique("thief") + "@x.example"
    assert await house.moves.request(house.id, new, Proof(thief.session_id, "first")) is None
    (link,) = await links(house.post, new)
    await ending(house, thief)
    assert await house.moves.confirm(link) is None
    account = await house.accounts.by_id(house.id)
    assert account is not None
    assert account.email == house.email


async def test_who_signs_out_of_one_session_still_moves(house: House) -> None:
    proof = await house.proof()
    new = unique("new") + "@x.example"
    assert await house.moves.request(house.id, new, proof) is None
    (link,) = await links(house.post, new)
    session = await Sessions(house.database).get(proof.session_id)
    assert session is not None
    await Sessions(house.database).sign_out_session(session, everywhere=False)
    assert await house.moves.confirm(link) is not None


async def test_who_adds_or_takes_away_a_factor_stops_a_move_to_another_address(
    house: House,
) -> None:
    """A thief who had a session and the password would else have the mailbox of the account."""
    session_id = (await house.sign_in()).session_id
    factors = OwnFactors(
        house.database,
        TotpFactor(house.database, Sealer(b"o" * 32)),
        SecurityNotifications(house.database, house.post),
    )
    owner = FactorOwner(house.id, session_id)
    first = await house.link(Purpose.EMAIL_CHANGE)
    drawn = await factors.begin_totp(owner)
    assert isinstance(drawn, NewTotp)
    async with house.database.read_transaction() as tx:
        code = pyotp.TOTP(drawn.secret).generate_otp(int(await tx.now()) // STEP_S)
    enrolled = await factors.confirm_totp(owner, code)
    assert isinstance(enrolled, Enrolled)
    assert await house.moves.confirm(first) is None
    async with house.database.transaction() as tx:
        await tx.run("UPDATE families SET amr = 'pwd mfa' WHERE id = :id", id=session_id)
    moved = await house.moves.request(house.id, unique("n") + "@x.example", await later(house))
    assert moved is None
    assert await factors.remove_totp(owner)
    async with house.database.read_transaction() as tx:
        assert await tx.all("SELECT * FROM mail_tokens WHERE account_id = :id", id=house.id) == []
        waiting = "SELECT * FROM outbox WHERE state = 'waiting' AND purpose = 'address'"
        assert await tx.all(waiting) == []


async def later(house: House) -> Proof:
    """Of a session that has the factor."""
    grant = await house.tokens.begin(
        house.id, ORIGIN, checked_hash="first", amr=("pwd", "otp", "mfa")
    )
    assert isinstance(grant, SessionGrant)
    return Proof(grant.session_id, "first")


async def test_a_deleted_account_leaves_in_the_outbox_what_counts_alone(house: House) -> None:
    """Mail that it had sent to another address; not what was in it, or whose it was."""
    await house.link(Purpose.RESET)
    await house.link(Purpose.EMAIL_CHANGE)
    await house.accounts.delete(house.id)
    async with house.database.read_transaction() as tx:
        for table in ("mail_tokens", "registrations"):
            assert await tx.all(f"SELECT * FROM {table}") == []
        (move,) = await tx.all("SELECT * FROM outbox")
    told = {"state": "dropped", "email_key": "", "recipient": None, "fields": "{}"}
    assert {name: move[name] for name in told} == told
    assert move["purpose"] == Purpose.EMAIL_CHANGE


async def test_two_confirmations_of_one_address_at_once_make_one_account(
    database: Database,
) -> None:
    """Each of them may be tried twice, and the outbox writes mail meanwhile."""
    post, email = outbox(database), unique("ann") + "@x.example"
    registrations = Registrations(database, post)
    for number in range(4):
        await registrations.register(email, f"hash {number}", f"requester {number}")
    tokens = await links(post, email)
    for number in range(3):
        await registrations.register(email, f"later {number}", f"requester {number}")
    confirmations = [await registrations.confirmation(token) for token in tokens]
    assert None not in confirmations
    results = await asyncio.gather(
        *(
            registrations.verify(token, confirmation)
            for token, confirmation in zip(tokens, confirmations, strict=True)
            if confirmation is not None
            for _ in range(2)
        ),
        post.drain(),
    )
    assert sum(isinstance(answer, tuple) for answer in results) == 1
    assert await Accounts(database).by_email(email) is not None


async def test_a_mailbox_is_filled_by_no_number_of_accounts_that_wish_to_move_there(
    database: Database,
) -> None:
    """Counted by the mailbox, whoever asks."""
    victim = unique("victim") + "@x.example"
    for _ in range(18):
        house = await House(database).open()
        assert await house.moves.request(house.id, victim, await house.proof()) is None
        while await house.post.drain():
            pass
    assert len(await links(outbox(database), victim)) == 15


async def test_one_account_wears_its_old_mailbox_out_with_no_letters(house: House) -> None:
    for _ in range(9):
        await house.moves.request(house.id, unique("new") + "@x.example", await house.proof())
    while await house.post.drain():
        pass
    mails = [w for w in await house.post.waiting_mail(1000) if w.recipient == house.email]
    assert len(mails) == 5


async def test_a_password_that_was_changed_since_it_was_checked_confirms_nothing(
    database: Database,
) -> None:
    house = await House(database).open(verified=False)
    link = await house.link(Purpose.VERIFY)
    checked = await house.registrations.confirmation(link)
    assert checked is not None
    await change(house, Proof("", None))
    assert await house.registrations.verify(link, checked) is Reason.INVALID_CREDENTIALS
    assert await house.good(Purpose.VERIFY, link)


async def test_a_replaced_letter_that_is_tried_again_brings_no_link_back(
    database: Database,
) -> None:
    post, email = outbox(database), unique("ann") + "@x.example"
    registrations = Registrations(database, post)
    await registrations.register(email, "older", "the owner")
    (older,) = await links(post, email)
    async with database.transaction() as tx:
        await tx.run("UPDATE outbox SET asked_ms = asked_ms - 1")
        await tx.run("UPDATE registrations SET asked_ms = asked_ms - 1")
    await registrations.register(email, "newer", "the owner")
    await links(post, email)
    async with database.transaction() as tx:  # as if nobody knew whether they had arrived
        await tx.run("UPDATE outbox SET prepared_at = NULL, claimed_until = 0, due_at = 0")
    while await post.drain():
        pass
    assert await registrations.confirmation(older) is None
