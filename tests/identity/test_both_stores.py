"""The statements of mail, clients, keys and the audit log, on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import secrets
from contextlib import nullcontext

import pytest

from gateway.access.attributes import SetBy
from gateway.audit import chain, verification
from gateway.audit import log as audit_log
from gateway.audit.log import AuditEvent, AuditKind, AuditLog
from gateway.identity.accounts.account_facts import AccountFacts
from gateway.identity.accounts.account_rows import Account
from gateway.identity.accounts.accounts import Accounts, Proof
from gateway.identity.accounts.email_change import EmailChanges
from gateway.identity.accounts.registration import Registrations
from gateway.identity.clients.api_keys import ApiKeys
from gateway.identity.clients.client_auth import (
    Assertion,
    BasicSecret,
    ClientAuthenticator,
    UnknownClient,
    purge_assertions,
)
from gateway.identity.clients.clients import Clients, locked, next_issued_at
from gateway.identity.clients.key_authenticator import ApiKeyAuthenticator
from gateway.identity.mail.links import Purpose
from gateway.identity.mail.mail_requests import MailRequest, queue_link
from gateway.identity.mail.notifications import SecurityNotifications
from gateway.identity.mail.options import MailOptions
from gateway.identity.mail.outbox import MailOutbox
from gateway.identity.mail.templates import MailTemplates
from gateway.identity.sessions.sessions import SignInSource
from gateway.identity.sign_in.refresh_tokens import RefreshOptions, RefreshTokens, SessionGrant
from gateway.identity.tombstones import Ended, has_tombstone, role_target
from gateway.model import Call, Credential, CredentialKind, Principal, Reason, SystemClock
from gateway.revocation.revocation_list import RevocationList
from gateway.stores.protocols import Database
from tests.identity.letters import SettledOutbox


def outbox(database: Database) -> MailOutbox:
    letters = MailTemplates.load([], site="x.example", public_url="https://x.example")
    return SettledOutbox(
        database, letters, MailOptions("no@x.example", "https://x.example", b"k" * 32), None
    )


def unique(name: str) -> str:
    """No two alike."""
    return f"{name}-{secrets.token_hex(6)}"


async def proof(database: Database, account: Account) -> Proof:
    """Of an owner who is signed in and has given the password."""
    tokens = RefreshTokens(database, RefreshOptions())
    grant = await tokens.begin(
        account.id, SignInSource("one", "192.0.2.1"), checked_hash=account.password_hash
    )
    assert isinstance(grant, SessionGrant)
    return Proof(grant.session_id, account.password_hash)


async def links(post: MailOutbox, recipient: str) -> list[str]:
    while await post.drain():
        pass
    return [
        re.findall(r"#token=(\S+)", letter.content.text)[0]
        for letter in await post.waiting_mail(1000)
        if letter.recipient == recipient and "#token=" in letter.content.text
    ]


async def test_a_registration_is_confirmed_and_a_password_reset_by_mail(
    database: Database,
) -> None:
    post = outbox(database)
    registrations = Registrations(database, post)
    email = unique("ann") + "@x.example"
    await registrations.register(email, "first", "a stranger")
    await registrations.register(email, "second", "the owner")
    assert await Accounts(database).by_email(email) is None
    mailed = {}
    for link in await links(post, email):
        confirmation = await registrations.confirmation(link)
        assert confirmation is not None
        mailed[confirmation.password_hash] = (link, confirmation)
    verified = await registrations.verify(*mailed["second"])
    assert not isinstance(verified, Reason)
    account = await Accounts(database).by_email(email)
    assert account is not None
    assert (account.id, account.password_hash) == (verified[0].id, "second")
    assert await registrations.verify(*mailed["first"]) is Reason.INVALID_TOKEN
    await registrations.forgot(email, "the owner")
    (token,) = await links(post, email)
    assert await registrations.resettable(token)
    results = await asyncio.gather(*(registrations.reset(token, "third") for _ in range(4)))
    assert sum(answer is not None for answer in results) == 1
    after = await Accounts(database).by_email(email)
    assert after is not None
    assert after.password_hash == "third"
    await post.purge()


@pytest.mark.parametrize("verified", [True, False])
async def test_who_registered_the_address_of_somebody_else_leaves_nothing_said_of_them(
    database: Database, verified: bool
) -> None:
    """What operators and providers gave the account is its owner's."""
    post, facts = outbox(database), AccountFacts(database)
    registrations = Registrations(database, post)
    email = unique("ann") + "@x.example"
    account = await Accounts(database).register(email, "first", verified=verified)
    assert isinstance(account, Account)
    await facts.put_attributes(account.id, {"nick": "eve", "pronoun": "it"}, SetBy.PERSON)
    await facts.put_attributes(account.id, {"team": "red"})
    await facts.put_attributes(account.id, {"floor": "2"}, f"{SetBy.PROVIDER} idp")
    await registrations.forgot(email, "the owner")
    (token,) = await links(post, email)
    assert await registrations.reset(token, "second")
    kept = {one.name for one in await facts.attributes(account.id)}
    assert kept == {"team", "floor"} | ({"nick", "pronoun"} if verified else set())
    async with database.read_transaction() as tx:
        target = role_target(account.id, "nick")
        assert await has_tombstone(tx, Ended.ATTRIBUTE, target, of=account.id) is not verified
    await post.purge()


async def test_a_registration_whose_mail_is_asked_for_again_at_once_is_confirmed(
    database: Database,
) -> None:
    post = outbox(database)
    registrations = Registrations(database, post)
    email = unique("ann") + "@x.example"
    await registrations.register(email, "own", "the owner")
    await registrations.resend(email, "the owner")
    # One, or a second one where the first is written before the other is looked at.
    confirmations = [await registrations.confirmation(link) for link in await links(post, email)]
    assert {one.password_hash for one in confirmations if one is not None} == {"own"}


async def test_an_account_moves_to_another_address(database: Database) -> None:
    post, accounts = outbox(database), Accounts(database)
    old, new = unique("old") + "@x.example", unique("new") + "@x.example"
    account = await accounts.register(old, "hash", verified=True)
    assert isinstance(account, Account)
    changes = EmailChanges(database, post)
    assert await changes.request(account.id, new, await proof(database, account)) is None
    (token,) = await links(post, new)
    assert await changes.confirm(token) is not None
    moved = await accounts.by_email(new)
    assert moved is not None
    assert moved.id == account.id


async def test_a_taken_address_is_no_error(database: Database) -> None:
    post, accounts = outbox(database), Accounts(database)
    old, new = unique("old") + "@x.example", unique("new") + "@x.example"
    account = await accounts.register(old, "hash", verified=True)
    assert isinstance(account, Account)
    changes = EmailChanges(database, post)
    await changes.request(account.id, new, await proof(database, account))
    (token,) = await links(post, new)
    await accounts.register(new, "hash")
    assert await changes.confirm(token) is None


async def test_a_new_device_is_told(database: Database) -> None:
    post, accounts = outbox(database), Accounts(database)
    email = unique("ann") + "@x.example"
    account = await accounts.register(email, "hash", verified=True)
    assert isinstance(account, Account)
    tokens = RefreshTokens(database, RefreshOptions())
    for agent in ("one", "two"):
        grant = await tokens.begin(
            account.id, SignInSource(agent, "192.0.2.1"), checked_hash="hash"
        )
        assert isinstance(grant, SessionGrant)
        assert await tokens.find_active(grant.refresh_token) is not None
        await SecurityNotifications(database, post).signed_in(
            account.id, grant.session_id, user_agent=agent, address="192.0.2.1"
        )
    while await post.drain():
        pass
    assert [w.recipient for w in await post.waiting_mail(1000) if w.recipient == email] == [email]


async def test_two_postmen_share_the_work(database: Database) -> None:
    posts = [outbox(database), outbox(database)]
    while await posts[0].drain():
        pass
    names = [unique("n") + "@x.example" for _ in range(12)]
    for name in names:
        await Accounts(database).register(name, "hash")
    async with database.transaction() as tx:
        for name in names:
            await queue_link(tx, Purpose.RESET, name, MailRequest("somebody"))
    drained = await asyncio.gather(*(post.drain() for post in posts))
    assert sum(drained) == 12


async def test_clients_keys_and_assertions(database: Database) -> None:
    clients, keys = Clients(database), ApiKeys(database)
    name = unique("billing")
    created = await clients.create(name, ["reader"])
    assert created is not None
    assert await clients.create(name) is None
    assert await clients.rotate(created.client_id) is not None
    assert await clients.rotate(created.client_id, at_once=True) is not None
    async with database.transaction() as tx:
        client = await locked(tx, created.client_id)
        assert client is not None
        assert await next_issued_at(tx, client) > client.not_before
    key = await keys.create(created.client_id, roles=["reader"], scopes=["a:read"], life_s=60)
    assert key is not None
    identifier = ApiKeyAuthenticator(database, RevocationList(), SystemClock())
    call = Call("GET", "h", "/", ("",), "", headers=(), client_ip="192.0.2.1", scheme="http")
    principal = await identifier.authenticate(Credential(CredentialKind.API_KEY, key.text), call)
    assert isinstance(principal, Principal)
    assert (principal.roles, principal.scopes) == (("reader",), ("a:read",))
    await identifier.write_uses()
    assert await keys.end(key.id) is not None
    assert [
        shown.last_used_at is not None for shown in await keys.of_client(created.client_id)
    ] == [True]
    authenticator = ClientAuthenticator(database, SystemClock(), ["https://x.example"])
    first = await asyncio.gather(
        *(authenticator._first_use("use", 4_000_000_000) for _ in range(6))
    )
    assert first.count(True) == 1
    await purge_assertions(database)
    assert await clients.delete(created.client_id) is not None
    assert name not in {client.name for client in await clients.list()}


async def test_the_uses_of_keys_are_written_past_a_row_that_somebody_holds(
    database: Database,
) -> None:
    """Whoever waited with some of them held could have each other end."""
    if database.dialect == "sqlite":
        return  # whoever writes, writes alone
    keys, used = ApiKeys(database), []
    client = await Clients(database).create(unique("billing"), ["reader"])
    assert client is not None
    identifier = ApiKeyAuthenticator(database, RevocationList(), SystemClock())
    call = Call("GET", "h", "/", ("",), "", headers=(), client_ip="192.0.2.1", scheme="http")
    for _ in range(2):
        key = await keys.create(client.client_id)
        assert key is not None
        await identifier.authenticate(Credential(CredentialKind.API_KEY, key.text), call)
        used.append(key.id)
    held = min(used)
    async with database.transaction() as tx:
        await tx.run("UPDATE api_keys SET id = id WHERE id = :id", id=held)
        await identifier.write_uses()
    shown = {key.id: key.last_used_at for key in await keys.of_client(client.client_id)}
    assert shown.pop(held) is None
    assert None not in shown.values()


async def test_the_audit_log_is_written_and_verifies(database: Database) -> None:
    log = AuditLog(database, SystemClock(), b"a" * 32, b"c" * 32)
    for number in range(700):
        log.record(AuditEvent(AuditKind.SIGNED_IN, subject=f"s{number}"))
    await log.flush()
    result = await verification.verify(database, [chain.ChainKey(b"c" * 32)])
    assert result.problems == ()
    assert result.events >= 701
    async with database.read_transaction() as tx:
        newest = await audit_log.newest(tx, 3)
    assert len(newest) == 3
    seen = [event async for event in audit_log.after(database, audit_log.EventPosition(0, "", 0))]
    assert len(seen) == result.events


@pytest.mark.parametrize("client_id", ["a\x00b", "\x00", "\ud800", "a\udfffb", "x" * 129, "'; --"])
async def test_what_is_no_id_of_a_client_is_asked_of_no_store(
    database: Database, client_id: str
) -> None:
    authenticator = ClientAuthenticator(database, SystemClock(), ["https://x.example"])
    claims = {"sub": client_id, "iss": client_id}
    forged = ".".join(
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()
        for part in ({"alg": "ES256"}, claims, {})
    )
    for principal in (BasicSecret(client_id, "s"), Assertion(forged)):
        believed = await authenticator.authenticate(principal, nullcontext())
        assert believed == UnknownClient(None)
