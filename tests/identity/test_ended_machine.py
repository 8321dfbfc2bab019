"""What was ended stays ended, whatever order things come in, and two of them at once.

One address, its owner, an operator, and a thief who knows what the owner knew a while ago: a
session and a password that were good when they were checked.  Letters are carried by a mail
server that may say "later" and have taken them all the same.  After every step each session,
password and link that has ceased to be good must be so for ever.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import tempfile
from collections.abc import Awaitable, Coroutine
from contextlib import closing
from email.message import EmailMessage
from typing import Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from gateway.identity.accounts.account_rows import Account
from gateway.identity.accounts.accounts import Accounts, Proof, Replaced
from gateway.identity.accounts.email_change import EmailChanges
from gateway.identity.accounts.registration import EmailConfirmation, Registrations
from gateway.identity.mail import registrations
from gateway.identity.mail.links import Purpose, find_link
from gateway.identity.mail.options import MailOptions
from gateway.identity.mail.templates import MailTemplates
from gateway.identity.mail.transport import DeliveryOutcome, DeliveryResult
from gateway.identity.sessions.sessions import Sessions, SignInSource
from gateway.identity.sign_in.refresh_tokens import RefreshOptions, RefreshTokens, SessionGrant
from gateway.model import Reason
from gateway.stores.migrations import upgrade
from gateway.stores.open_database import open_database
from gateway.stores.protocols import Database
from tests import servers
from tests.databases import Hands, write_schema
from tests.identity.letters import SettledOutbox
from tests.mailbox import body_of
from tests.scale import scaled

pytestmark = pytest.mark.slow

T = TypeVar("T")
Fact = tuple[str, str]
"""What may be good: an account, a password, a session or a link, and which."""
EMAILS = ("ann@x.example", "anna@y.example")
ORIGIN = SignInSource("a browser", "192.0.2.1")
LONG_S = 10**8
"""Links expire in no run: a letter that is sent again makes its link good for longer, by
design."""
picks = st.integers(0, 5)
"""Counted from the newest: what has just happened is what is tried again."""


class Server:
    """A mail server, and whoever reads the mailboxes behind it."""

    def __init__(self) -> None:
        self.later = False
        self.links: list[str] = []

    async def send(self, message: EmailMessage, sender: str, recipient: str) -> DeliveryResult:
        del sender, recipient
        for link in re.findall(r"#token=(\S+)", body_of(message)):
            if link not in self.links:
                self.links.append(link)
        return DeliveryResult(DeliveryOutcome.LATER if self.later else DeliveryOutcome.DONE)

    async def rehearse(self, message: EmailMessage) -> None:
        del message


class Town:
    """Everything that may happen, each by the code that does it."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.server = Server()
        letters = MailTemplates.load([], site="x.example", public_url="https://x.example")
        options = MailOptions("n@x.example", "https://x.example", b"k" * 32, LONG_S, LONG_S)
        self.post = SettledOutbox(database, letters, options, self.server)
        self.accounts = Accounts(database)
        self.sessions = Sessions(database)
        self.tokens = RefreshTokens(database, RefreshOptions(life_s=LONG_S))
        self.registrations = Registrations(database, self.post)
        self.moves = EmailChanges(database, self.post)
        self.passwords = 0
        self.proofs: list[Proof] = []
        self.confirmations: list[tuple[str, EmailConfirmation]] = []
        self.ended: set[Fact] = set()
        """What had ceased to be good before this step began."""

    def took(self, *facts: Fact) -> None:
        """Something was done that stands on these."""
        assert not self.ended & set(facts), facts

    def took_proof(self, proof: Proof) -> None:
        self.took(("session", proof.session_id), ("password", str(proof.checked_hash)))

    def new_password(self) -> str:
        self.passwords += 1
        return f"hash {self.passwords}"

    async def account(self) -> Account | None:
        candidates = [await self.accounts.by_email(email) for email in EMAILS]
        return next((account for account in candidates if account is not None), None)

    async def act(self, name: str, pick: int) -> None:
        account = await self.account()
        work = getattr(self, name)
        await work(account, pick)

    # --- strangers ---

    async def register(self, _: Account | None, pick: int) -> None:
        email = EMAILS[pick % 2]
        await self.registrations.register(email, self.new_password(), f"requester {pick % 3}")

    async def resend(self, _: Account | None, pick: int) -> None:
        await self.registrations.resend(EMAILS[pick % 2], f"requester {pick % 3}")

    async def forgot(self, _: Account | None, pick: int) -> None:
        await self.registrations.forgot(EMAILS[pick % 2], f"requester {pick % 3}")

    # --- whoever knows a password or holds a link ---

    async def sign_in(self, account: Account | None, _: int) -> None:
        if account is not None:
            begun = await self.tokens.begin(account.id, ORIGIN, checked_hash=account.password_hash)
            if isinstance(begun, SessionGrant):
                self.proofs.append(Proof(begun.session_id, account.password_hash))

    async def sign_in_late(self, account: Account | None, pick: int) -> None:
        """With a password that was checked a while ago."""
        if account is not None and self.proofs:
            checked = self.proofs[-1 - pick % len(self.proofs)].checked_hash
            begun = await self.tokens.begin(account.id, ORIGIN, checked_hash=checked)
            if isinstance(begun, SessionGrant):
                self.took(("password", str(checked)))
                self.proofs.append(Proof(begun.session_id, checked))

    async def change_password(self, account: Account | None, pick: int) -> None:
        if account is not None and self.proofs:
            proof = self.proofs[-1 - pick % len(self.proofs)]
            new = self.new_password()
            results = await self.accounts.change_password(account.id, new, proof)
            if isinstance(results, Replaced):
                self.took_proof(proof)
                self.proofs.append(Proof(proof.session_id, new))

    async def ask_to_move(self, account: Account | None, pick: int) -> None:
        if account is not None and self.proofs:
            proof = self.proofs[-1 - pick % len(self.proofs)]
            if await self.moves.request(account.id, EMAILS[pick % 2], proof) is None:
                self.took_proof(proof)

    async def open_link(self, _: Account | None, pick: int) -> None:
        """What a page does with a link: it tries all that the link may be for."""
        if self.server.links:
            link = self.server.links[-1 - pick % len(self.server.links)]
            if await self.moves.confirm(link) is not None:
                self.took(("link", link))
            done = None
            if await self.registrations.resettable(link):
                done = await self.registrations.reset(link, self.new_password())
            if done is not None:
                self.took(("link", link))

    async def name_password(self, _: Account | None, pick: int) -> None:
        """The password of a link is checked; it is used at once, or a while later."""
        if self.server.links:
            link = self.server.links[-1 - pick % len(self.server.links)]
            confirmation = await self.registrations.confirmation(link)
            if confirmation is not None:
                self.confirmations.append((link, confirmation))

    async def verify(self, _: Account | None, pick: int) -> None:
        if self.confirmations:
            link, confirmation = self.confirmations[-1 - pick % len(self.confirmations)]
            if not isinstance(await self.registrations.verify(link, confirmation), Reason):
                self.took(("link", link), ("password", str(confirmation.password_hash)))

    async def sign_out(self, _: Account | None, pick: int) -> None:
        if self.proofs:
            await self.sessions.end(self.proofs[-1 - pick % len(self.proofs)].session_id, "logout")

    async def sign_out_everywhere(self, _: Account | None, pick: int) -> None:
        if self.proofs:
            sid = self.proofs[-1 - pick % len(self.proofs)].session_id
            family = await self.sessions.get(sid)
            if family is not None:
                await self.sessions.sign_out_session(family, everywhere=True)

    # --- the operator ---

    async def create(self, _: Account | None, pick: int) -> None:
        await self.accounts.register(EMAILS[pick % 2], self.new_password(), verified=pick % 3 > 0)

    async def disable(self, account: Account | None, _: int) -> None:
        if account is not None:
            await self.accounts.disable(account.id)

    async def enable(self, account: Account | None, _: int) -> None:
        if account is not None:
            await self.accounts.enable(account.id)

    async def revoke(self, account: Account | None, _: int) -> None:
        if account is not None:
            await self.accounts.end_all(account.id, "operator")

    async def delete(self, account: Account | None, _: int) -> None:
        if account is not None:
            await self.accounts.delete(account.id)

    # --- the outbox ---

    async def drain(self, _: Account | None, pick: int) -> None:
        self.server.later = pick % 2 == 0
        await self.post.drain()

    # --- what is good now ---

    async def good(self) -> set[Fact]:
        facts: set[Fact] = set()
        for email in EMAILS:
            account = await self.accounts.by_email(email)
            if account is None:
                continue
            facts.add(("account", account.id))
            facts.add(("password", str(account.password_hash)))
            if not account.disabled:
                live = await self.sessions.find_active(account.id)
                facts |= {("session", family.id) for family in live}
        async with self.database.read_transaction() as tx:
            for link in self.server.links:
                waiting = await registrations.find(tx, link)
                # With an account that has never shown that the address is its own a registration
                # waits, and goes on once that is gone (`accounts.erasure`).
                taken = waiting is not None and await tx.one(
                    "SELECT id FROM accounts WHERE email_key = :key AND email_verified = 1",
                    key=waiting.normalized_email,
                )
                if (waiting is not None and not taken) or await find_link(tx, link, *Purpose):
                    facts.add(("link", link))
        return facts


ASKING = st.sampled_from(["register", "resend", "forgot", "ask_to_move"])
KNOWING = st.sampled_from(["sign_in", "sign_in_late", "change_password", "change_password"])
HOLDING = st.sampled_from(["open_link", "open_link", "name_password", "verify"])
LEAVING = st.sampled_from(["sign_out", "sign_out_everywhere"])
OPERATOR = st.sampled_from(["create", "enable", "disable", "revoke", "revoke", "delete"])
ANYBODY = st.one_of(ASKING, KNOWING, HOLDING, LEAVING, OPERATOR, st.just("drain"))
LEAVES_NOTHING = ("disable", "revoke", "delete")


class StaysEnded(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.clock = Hands()
        self.folder = tempfile.TemporaryDirectory()
        self.before: set[Fact] = set()

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    async def opened(self) -> Database:
        url = f"sqlite:///{self.folder.name}/g.db"
        await write_schema(url)
        return open_database(url, clock=self.clock)

    @initialize(verified=st.booleans())
    def begin(self, verified: bool) -> None:
        async def work() -> Town:
            town = Town(await self.opened())
            await town.accounts.register(EMAILS[0], town.new_password(), verified=verified)
            for act in ("sign_in", "sign_in", "forgot", "resend", "ask_to_move", "drain"):
                await town.act(act, 1)
            return town

        self.town = self.do(work())

    def teardown(self) -> None:
        if hasattr(self, "town"):
            self.do(self.town.database.close())
        self.runner.close()
        self.folder.cleanup()

    @rule(act=ASKING, pick=picks, carried=st.booleans())
    def somebody_asks_for_a_letter(self, act: str, pick: int, carried: bool) -> None:
        self.do(self.town.act(act, pick))
        if carried:
            self.do(self.town.act("drain", pick))

    @rule(picked=st.lists(picks, min_size=1, max_size=3))
    def somebody_changes_the_password(self, picked: list[int]) -> None:
        for pick in picked:
            self.do(self.town.act("change_password", pick))

    @rule(act=KNOWING, pick=picks)
    def somebody_knows_a_password(self, act: str, pick: int) -> None:
        self.do(self.town.act(act, pick))

    @rule(act=HOLDING, pick=picks)
    def somebody_holds_a_link(self, act: str, pick: int) -> None:
        self.do(self.town.act(act, pick))

    @rule(act=LEAVING, pick=picks)
    def somebody_signs_out(self, act: str, pick: int) -> None:
        self.do(self.town.act(act, pick))

    @rule(act=OPERATOR, pick=picks)
    def the_operator_acts(self, act: str, pick: int) -> None:
        async def work() -> None:
            account = await self.town.account()
            await self.town.act(act, pick)
            if account is None or act not in LEAVES_NOTHING:
                return
            assert not await self.town.sessions.find_active(account.id)
            async with self.town.database.read_transaction() as tx:
                for link in self.town.server.links:
                    token = await find_link(tx, link, *Purpose)
                    assert token is None or token.account_id != account.id

        self.do(work())
        if act == "disable":
            self.nothing_that_ended_is_good_again()
            self.do(self.town.act("enable", pick))

    @rule(acts=st.lists(st.tuples(ANYBODY, picks), min_size=2, max_size=4))
    def at_once(self, acts: list[tuple[str, int]]) -> None:
        async def work() -> None:
            running: list[Awaitable[None]] = [self.town.act(*act) for act in acts]
            await asyncio.gather(*running)

        self.do(work())

    @rule(seconds=st.sampled_from([20, 120, 3700]), pick=picks)
    def wait(self, seconds: int, pick: int) -> None:
        """Letters become due again, mailboxes have room, and the outbox is drained."""
        self.pass_by(seconds)
        self.do(self.town.act("drain", pick))

    def pass_by(self, seconds: int) -> None:
        self.clock.move(seconds)

    @invariant()
    def nothing_that_ended_is_good_again(self) -> None:
        if not hasattr(self, "town"):
            return
        good = self.do(self.town.good())
        assert not good & self.town.ended
        self.town.ended |= self.before - good
        # A disabled account's sessions have ended; its password is kept for when it is enabled.
        self.before = good


class StaysEndedOnPostgres(StaysEnded):
    """The same where statements of two transactions really interleave."""

    url = ""

    async def opened(self) -> Database:
        if not StaysEndedOnPostgres.url:
            StaysEndedOnPostgres.url = _new_database(servers.shared().postgres)
        database = open_database(StaysEndedOnPostgres.url)
        await upgrade(database)
        async with database.transaction() as tx:
            for table in ("outbox", "registrations", "changes", "accounts", "tombstones"):
                await tx.run(f"DELETE FROM {table}")
        return database

    def pass_by(self, seconds: int) -> None:
        """The server's clock cannot be turned: what waits is made older."""

        async def work() -> None:
            async with self.town.database.transaction() as tx:
                await tx.run(
                    "UPDATE outbox SET due_at = due_at - :s, claimed_until = claimed_until - :s,"
                    " created_at = created_at - :s, prepared_at = prepared_at - :s",
                    s=seconds,
                )

        self.do(work())


def _new_database(url: str) -> str:
    name = f"ended_{secrets.token_hex(6)}"
    with closing(psycopg.connect(url)) as connection:
        connection.autocommit = True
        connection.cursor().execute(f"CREATE DATABASE {name}")
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


StaysEnded.TestCase.settings = settings(
    max_examples=scaled(60),
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
StaysEndedOnPostgres.TestCase.settings = settings(
    max_examples=scaled(15),
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
TestStaysEnded = StaysEnded.TestCase
TestStaysEndedOnPostgres = StaysEndedOnPostgres.TestCase
