"""A backup brings nothing back to life that was ended."""

from __future__ import annotations

import pytest

from gateway.identity.accounts.account_rows import Account
from gateway.identity.accounts.accounts import Accounts, replace_password
from gateway.identity.clients.clients import Clients
from gateway.identity.keys import signing_keys
from gateway.identity.keys.encryption import Sealer
from gateway.identity.keys.jwk import Alg
from gateway.identity.keys.key_ring import KeyState
from gateway.identity.keys.signing_keys import made_key
from gateway.identity.sessions import restore
from gateway.identity.sessions.restore import Carried, Present, Secrets
from gateway.identity.tombstones import (
    Ended,
    add_tombstone,
    email_target,
    link_target,
    remove_tombstone,
)
from gateway.model import Change, ChangeKind
from gateway.stores.protocols import Database, Transaction

SECRET, OTHER_SECRET = bytes(range(32)), bytes(range(1, 33))
SECRETS = Secrets(Sealer(SECRET), Sealer(SECRET), b"c" * 32)
NOBODY = Present(0, {}, (), ())


async def disowned(
    tx: Transaction, before: Present = NOBODY, secrets: Secrets = SECRETS
) -> tuple[Carried, list[Change]]:
    keys = (made_key(Alg.ES256), made_key(Alg.ES256))
    carried, changes = await restore.revoke_all(tx, before, secrets, keys)
    return carried, list(changes)


async def account(tx: Transaction, name: str = "u", **more: str | int | None) -> None:
    row = {"disabled": 0, "hash": "old", "epoch": 0, "email": f"{name}@b", **more}
    await tx.run(
        "INSERT INTO accounts (id, email, email_key, password_hash, password_epoch, disabled,"
        " created_at, updated_at) VALUES (:id, :email, :email, :hash, :epoch, :disabled, 1, 1)",
        id=name,
        **row,
    )


async def found(tx: Transaction, name: str = "u") -> dict[str, object]:
    row = await tx.one(
        "SELECT email, password_hash, password_epoch, disabled FROM accounts WHERE id = :id",
        id=name,
    )
    return {} if row is None else dict(row)


async def test_every_family_ends_and_every_token_given_is_refused(database: Database) -> None:
    async with database.transaction() as tx:
        ahead = int(await tx.now()) + 7
        await account(tx)
        await tx.run(
            "INSERT INTO families (id, account_id, transport, user_agent, address, amr, auth_time,"
            " created_at, last_used_at, expires_at) VALUES ('f', 'u', 'bearer', 'a', 'b',"
            " 'pwd', 1, 1, 5, 2)"
        )
        _, (everyone, *_) = await disowned(tx, Present(ahead, {}, (), ()))
        family = await tx.one("SELECT ended_at, end_reason FROM families")
        owner = await tx.one("SELECT not_before FROM accounts")
    change = (everyone.kind, everyone.target, everyone.not_before)
    assert change == (ChangeKind.EVERYONE, "*", ahead)
    assert family is not None
    assert family["ended_at"]
    assert family["end_reason"] == "restored"
    assert owner == {"not_before": ahead}


async def test_no_device_cookie_of_before_a_restore_is_known_again(database: Database) -> None:
    """The backup has the epoch of an older password, and cookies of it were laid up."""
    async with database.transaction() as tx:
        await tx.run(
            "INSERT INTO accounts (id, email, email_key, password_epoch, created_at, updated_at)"
            " VALUES ('u', 'a@b', 'a@b', 3, 1, 1)"
        )
        await disowned(tx)
        account = await tx.one("SELECT password_epoch FROM accounts")
    assert account is not None
    assert account["password_epoch"] > 1_000_000


async def test_the_newest_token_counts_where_the_clock_was_set_back(database: Database) -> None:
    async with database.transaction() as tx:
        ahead = int(await tx.now()) + 3600
        await tx.run(
            "INSERT INTO clients (id, name, newest_iat, created_at) VALUES ('c', 'c', :at, 1)",
            at=ahead,
        )
        assert await restore.newest_token_at(tx) == ahead


async def test_no_key_that_signed_before_signs_or_verifies_again(database: Database) -> None:
    """Whoever had read the backup could have signed with them."""
    old = (made_key(Alg.ES256), made_key(Alg.ES256))
    async with database.transaction() as tx:
        await signing_keys.lock(tx, SECRETS.now)
        await signing_keys.insert(tx, SECRETS.now, old[0], KeyState.ACTIVE, 1)
        await signing_keys.insert(tx, SECRETS.now, old[1], KeyState.NEXT, 1)
        carried, changes = await disowned(tx, Present(0, {}, ("only-in-a-worker",), ()))
        rows = await signing_keys.all_keys(tx)
    state = {row.kid: row.state for row in rows}
    assert [state[key.kid] for key in old] == [KeyState.GONE, KeyState.GONE]
    assert sorted(s.value for s in state.values()) == ["active", "gone", "gone", "next"]
    refused = {change.target for change in changes if change.kind is ChangeKind.KEY}
    assert refused == {old[0].kid, old[1].kid, "only-in-a-worker"}
    assert carried.signing_keys == 3


async def test_a_public_key_that_was_imported_stays_unless_it_was_revoked(
    database: Database,
) -> None:
    stays, revoked = made_key(Alg.ES256), made_key(Alg.ES256)
    async with database.transaction() as tx:
        for key in (stays, revoked):
            await signing_keys.insert(tx, SECRETS.now, key, KeyState.VERIFYING, 1)
        await add_tombstone(tx, Ended.SIGNING_KEY, revoked.kid)
        await disowned(tx)
        state = {row.kid: row.state for row in await signing_keys.all_keys(tx)}
    assert state[stays.kid] is KeyState.VERIFYING
    assert state[revoked.kid] is KeyState.GONE


async def test_the_new_keys_are_sealed_under_the_secret_of_now(database: Database) -> None:
    async with database.transaction() as tx:
        await signing_keys.lock(tx, Sealer(OTHER_SECRET))
        await disowned(tx, secrets=Secrets(Sealer(SECRET), Sealer(OTHER_SECRET), b"o" * 32))
        await signing_keys.lock(tx, Sealer(SECRET))
        assert await signing_keys.retained_chain_keys(tx, Sealer(SECRET)) == [b"o" * 32]


async def test_no_mailed_link_and_no_api_key_comes_back_to_life(database: Database) -> None:
    async with database.transaction() as tx:
        await account(tx)
        await tx.run(
            "INSERT INTO mail_tokens (hash, account_id, purpose, email_key, created_at,"
            " expires_at) VALUES ('h', 'u', 'reset', 'a@b', 1, 4000000000)"
        )
        await tx.run(
            "INSERT INTO outbox (id, template, email_key, fields, due_at, created_at)"
            " VALUES ('m', 'reset', 'a@b', '{}', 1, 1)"
        )
        await tx.run("INSERT INTO clients (id, name, created_at) VALUES ('c', 'c', 1)")
        await tx.run(
            "INSERT INTO api_keys (id, hash, client_id, created_at) VALUES ('k', 'h', 'c', 1)"
        )
        await tx.run(
            "INSERT INTO personal_keys (id, hash, account_id, name, created_at, expires_at)"
            " VALUES ('p', 'h', 'u', 'laptop', 1, 4000000000)"
        )
        await disowned(tx)
        assert await tx.all("SELECT hash FROM mail_tokens") == []
        assert await tx.all("SELECT id FROM outbox WHERE state = 'waiting'") == []
        for table in ("api_keys", "personal_keys"):
            query = f"SELECT id FROM {table} WHERE ended_at IS NULL"
            assert await tx.all(query) == []


async def test_a_deleted_account_and_a_deleted_client_stay_deleted(database: Database) -> None:
    async with database.transaction() as tx:
        await account(tx)
        await account(tx, "other")
        await tx.run("INSERT INTO clients (id, name, created_at) VALUES ('c', 'c', 1)")
        await add_tombstone(tx, Ended.ACCOUNT, "u")
        await add_tombstone(tx, Ended.CLIENT, "c")
        carried, _ = await disowned(tx)
        assert await found(tx) == {}
        assert await found(tx, "other") != {}
        assert await tx.all("SELECT id FROM clients") == []
    assert (carried.deleted_accounts, carried.clients) == (1, 1)


async def test_a_disabled_account_stays_disabled_and_an_enabled_one_enabled(
    database: Database,
) -> None:
    async with database.transaction() as tx:
        await account(tx)
        await account(tx, "back")
        for name in ("u", "back"):
            await add_tombstone(tx, Ended.DISABLED, name)
        await remove_tombstone(tx, Ended.DISABLED, "back")
        await disowned(tx)
        assert (await found(tx))["disabled"] == 1
        assert (await found(tx, "back"))["disabled"] == 0


@pytest.mark.parametrize(
    ("present", "password"), [({"hash": "new", "epoch": 3}, "new"), (None, None)]
)
async def test_a_password_that_was_replaced_does_not_come_back(
    database: Database, present: dict[str, str | int] | None, password: str | None
) -> None:
    """The one of now counts where it is known; where the database was lost, none does."""
    async with database.transaction() as tx:
        before = NOBODY
        if present is not None:
            await account(tx, "u", **present)
            before = await restore.present(tx, SECRETS.now)
            await tx.run("DELETE FROM accounts")
        await account(tx, hash="of the backup", epoch=2)
        await add_tombstone(tx, Ended.PASSWORD, "u", 3)
        carried, _ = await disowned(tx, before)
        row = await found(tx)
    assert row["password_hash"] == password
    assert isinstance(row["password_epoch"], int)
    assert row["password_epoch"] > 3
    assert carried.passwords == 1


async def test_a_password_that_nobody_has_replaced_comes_back(database: Database) -> None:
    async with database.transaction() as tx:
        await account(tx, hash="of the backup", epoch=3)
        await add_tombstone(tx, Ended.PASSWORD, "u", 3)
        await disowned(tx)
        assert (await found(tx))["password_hash"] == "of the backup"


async def test_an_address_that_was_left_receives_no_link_again(database: Database) -> None:
    async with database.transaction() as tx:
        await account(tx, email="new@b")
        before = await restore.present(tx, SECRETS.now)
        await tx.run("DELETE FROM accounts")
        await account(tx, email="left@b")
        await add_tombstone(tx, Ended.EMAIL, email_target("u", "left@b"))
        await disowned(tx, before)
        assert (await found(tx))["email"] == "new@b"


async def test_an_account_whose_address_nobody_knows_any_more_is_disabled(
    database: Database,
) -> None:
    async with database.transaction() as tx:
        await account(tx, email="left@b")
        await add_tombstone(tx, Ended.EMAIL, email_target("u", "left@b"))
        await disowned(tx)
        assert (await found(tx))["disabled"] == 1


async def test_whatever_ends_a_thing_leaves_its_tombstone(database: Database) -> None:
    accounts, clients = Accounts(database), Clients(database)
    owner = await accounts.register("a@b.example", "hash", roles=["admin", "viewer"])
    other = await accounts.register("b@b.example", "hash")
    assert isinstance(owner, Account)
    assert isinstance(other, Account)
    client, gone = await clients.create("one"), await clients.create("two")
    assert client is not None
    assert gone is not None
    await accounts.revoke(owner.id, "admin")
    await accounts.revoke(owner.id, "viewer")
    await accounts.grant(owner.id, "viewer")
    await accounts.disable(owner.id)
    await accounts.delete(other.id)
    async with database.transaction() as tx:
        await replace_password(tx, owner.id, "new")
    for _ in range(2):
        await clients.rotate(client.client_id)
    await clients.rotate(client.client_id, at_once=True)
    await clients.delete(gone.client_id)
    async with database.read_transaction() as tx:
        rows = await tx.all("SELECT kind, target, epoch FROM tombstones ORDER BY kind, target")
    ended = {(row["kind"], row["target"]): row["epoch"] for row in rows}
    assert ended[("role", f"{owner.id} admin")] == 0
    assert ("role", f"{owner.id} viewer") not in ended
    assert ended[("password", owner.id)] == owner.password_epoch + 1
    assert {kind for kind, _ in ended} == {
        "account", "client", "client_secret", "disabled", "password", "role",
    }  # fmt: skip
    assert sum(kind == "client_secret" for kind, _ in ended) == 3


async def test_an_address_that_was_returned_to_since_the_backup_is_none_that_was_left(
    database: Database,
) -> None:
    """The backup was made in between: a second restore must not shut its owner out."""
    async with database.transaction() as tx:
        await account(tx, email="home@b")
        before = await restore.present(tx, SECRETS.now)
        await tx.run("DELETE FROM accounts")
        await account(tx, email="away@b")
        for left in ("home@b", "away@b"):
            await add_tombstone(tx, Ended.EMAIL, email_target("u", left))
        await disowned(tx, before)
        assert (await found(tx))["email"] == "home@b"
        again = await restore.present(tx, SECRETS.now)
        for key in await signing_keys.all_keys(tx):
            await signing_keys.drop(tx, key.kid, 1)
        await disowned(tx, again)
        row = await found(tx)
    assert (row["email"], row["disabled"]) == ("home@b", 0)


async def test_what_was_unlinked_stays_unlinked_and_no_role_of_a_provider_comes_back(
    database: Database,
) -> None:
    async with database.transaction() as tx:
        await account(tx)
        before = await restore.present(tx, SECRETS.now)
        for name in ("kept", "unlinked"):
            await tx.run(
                "INSERT INTO linked_identities (id, account_id, issuer, subject, provider,"
                " linked_at, last_used_at) VALUES (:id, 'u', :id, 'alice', 'idp', 0, 0)",
                id=name,
            )
            await tx.run("INSERT INTO linked_roles VALUES (:id, 'admin')", id=name)
        await add_tombstone(tx, Ended.LINK, link_target("u", "unlinked", "alice"))
        carried, _ = await disowned(tx, before)
        assert (carried.links, carried.provider_roles) == (1, 1)
        left = await tx.all("SELECT id FROM linked_identities")
        assert [row["id"] for row in left] == ["kept"]
        # The next sign-in by the provider says what is left of them.
        assert await tx.all("SELECT * FROM linked_roles") == []


@pytest.mark.parametrize("in_backup", [True, False])
async def test_a_role_of_a_provider_that_only_keeps_away_stays(
    database: Database, in_backup: bool
) -> None:
    """Whether the backup has it, or the provider gave it since; the link may be another row."""
    async with database.transaction() as tx:
        for link, role in (("since", "suspended"), ("then", "admin")):
            await tx.run("DELETE FROM accounts")
            await account(tx)
            await tx.run(
                "INSERT INTO linked_identities (id, account_id, issuer, subject, provider,"
                " linked_at, last_used_at) VALUES (:id, 'u', 'idp', 'eve', 'idp', 0, 0)",
                id=link,
            )
            if link == "since" and not in_backup:
                await tx.run("INSERT INTO linked_roles VALUES (:id, :role)", id=link, role=role)
            if link == "since":
                before = await restore.present(tx, SECRETS.now, frozenset({"suspended"}))
        await tx.run("INSERT INTO linked_roles VALUES ('then', 'admin')")
        if in_backup:
            await tx.run("INSERT INTO linked_roles VALUES ('then', 'suspended')")
        carried, _ = await disowned(tx, before)
        left = await tx.all("SELECT role FROM held_roles WHERE account_id = 'u'")
    assert [row["role"] for row in left] == ["suspended"]
    assert carried.provider_roles == 1


async def test_what_the_nodes_of_the_backup_had_in_common_binds_nobody(
    database: Database,
) -> None:
    async with database.transaction() as tx:
        for name in ("shared_settings", "stream.followed:a/5"):
            await tx.run("INSERT INTO installation VALUES (:name, '[]')", name=name)
        await disowned(tx)
        assert (
            await tx.all(
                "SELECT name FROM installation WHERE name IN ('shared_settings', 'stream.followed:a/5')"
            )
            == []
        )
