"""Families: what ends with a sign-out, and for whom."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from gateway.identity.accounts.accounts import Accounts, Proof
from gateway.identity.revocations import refuse
from gateway.identity.sessions.purging import purge_sessions
from gateway.identity.sessions.session_room import SESSIONS_MAX
from gateway.identity.sessions.sessions import (
    Session,
    Sessions,
    SignInSource,
)
from gateway.identity.sign_in.refresh_tokens import RefreshOptions, RefreshTokens, SessionGrant
from gateway.model import Change, ChangeKind, Principal, Reason
from gateway.stores.protocols import Database
from tests.databases import Hands, fresh_database, reset_password


async def signed_in(database: Database, email: str = "a@example.com") -> SessionGrant:
    accounts = Accounts(database)
    await accounts.register(email, "hash")
    account = await accounts.by_email(email)
    assert account is not None
    grant = await RefreshTokens(database, RefreshOptions()).begin(
        account.id, SignInSource("agent", "192.0.2.7"), checked_hash="hash"
    )
    assert isinstance(grant, SessionGrant)
    return grant


def holder(grant: SessionGrant, *, session_id: str | None = None, subject: str = "") -> Principal:
    return Principal(
        subject=subject or grant.account.id,
        roles=(),
        session_id=session_id or grant.session_id,
        token_id="the-jti",
        client_id="authgate",
        kid="k",
        issued_at=grant.issued_at,
        expires_at=grant.issued_at + 900,
    )


def targets(changes: Sequence[Change] | None) -> list[tuple[str, str]]:
    return [(change.kind.value, change.target) for change in changes or []]


async def test_signing_out_ends_this_session_and_no_other(database: Database) -> None:
    one, two = await signed_in(database), await signed_in(database)
    sessions = Sessions(database)
    changes = await sessions.sign_out(holder(one), everywhere=False)
    assert targets(changes) == [("session", one.session_id)]
    assert [family.id for family in await sessions.find_active(one.account.id)] == [two.session_id]


async def test_an_account_has_no_more_than_a_hundred_sessions(tmp_path: Path) -> None:
    """Whoever signs in again and again, with a right password, makes no list without an end."""
    clock = Hands()
    async with fresh_database(tmp_path, clock) as database:
        grants = []
        for _ in range(SESSIONS_MAX + 3):
            grants.append(await signed_in(database))
            clock.move(1)
        live = await Sessions(database).find_active(grants[0].account.id)
        assert {family.id for family in live} == {grant.session_id for grant in grants[3:]}
        displaced = [gone.session_id for grant in grants for gone in grant.displaced]
        assert displaced == [grant.session_id for grant in grants[:3]]
        async with database.read_transaction() as tx:
            told = await tx.all("SELECT target FROM changes")
        assert {row["target"] for row in told} == set(displaced)


async def test_signing_out_again_gives_the_same_change_and_adds_no_row(database: Database) -> None:
    grant = await signed_in(database)
    first = await Sessions(database).sign_out(holder(grant), everywhere=False)
    again = await Sessions(database).sign_out(holder(grant), everywhere=False)
    assert again == first
    async with database.read_transaction() as tx:
        assert len(await tx.all("SELECT * FROM changes")) == 1


async def test_signing_out_everywhere_refuses_every_token_given_so_far(database: Database) -> None:
    one, two = await signed_in(database), await signed_in(database)
    changes = await Sessions(database).sign_out(holder(one), everywhere=True)
    assert targets(changes) == [("subject", one.account.id)]
    assert changes[0].not_before >= max(one.issued_at, two.issued_at)
    assert changes[0].cause is Reason.TOKEN_REVOKED
    assert await Sessions(database).find_active(one.account.id) == []
    assert await Sessions(database).sign_out(holder(one), everywhere=True) == changes


async def test_an_old_token_cannot_sign_its_owner_out_of_a_newer_session(
    database: Database,
) -> None:
    old = await signed_in(database)
    sessions = Sessions(database)
    ended = await sessions.sign_out(holder(old), everywhere=False)
    new = await signed_in(database)
    assert await sessions.sign_out(holder(old), everywhere=True) == ended
    assert [family.id for family in await sessions.find_active(new.account.id)] == [new.session_id]


@pytest.mark.parametrize("idle_s", [0, 3_600], ids=["time", "want of use"])
@pytest.mark.parametrize("by_refresh_token", [True, False])
async def test_a_token_of_a_session_that_is_over_by_time_ends_no_newer_one(
    tmp_path: Path, idle_s: int, by_refresh_token: bool
) -> None:
    clock = Hands()
    async with fresh_database(tmp_path, clock) as database:
        sessions = Sessions(database, idle_s=idle_s)
        old = await signed_in(database)
        session = await sessions.get(old.session_id)
        assert session is not None
        clock.move(7_200 if idle_s else session.expires_at - session.created_at)
        new = await signed_in(database)
        clock.move(1)
        for _ in range(2):
            if by_refresh_token:
                session = await sessions.get(old.session_id)
                assert session is not None
                changes = await sessions.sign_out_session(session, everywhere=True)
            else:
                changes = await sessions.sign_out(holder(old), everywhere=True)
            assert targets(changes) == [("session", old.session_id)]
        left = await sessions.find_active(new.account.id)
        assert [session.id for session in left] == [new.session_id]


async def test_a_token_that_outlives_its_session_signs_out_everywhere(tmp_path: Path) -> None:
    clock = Hands()
    async with fresh_database(tmp_path, clock) as database:
        sessions = Sessions(database)
        old = await signed_in(database)
        session = await sessions.get(old.session_id)
        assert session is not None
        clock.move(session.expires_at - session.created_at + 1)
        new = await signed_in(database)
        good = holder(old)
        good.expires_at = new.issued_at + 60
        changes = await sessions.sign_out(good, everywhere=True)
        assert targets(changes) == [("subject", new.account.id)]


async def test_a_token_that_is_good_signs_out_everywhere_though_its_session_is_idle(
    tmp_path: Path,
) -> None:
    clock = Hands()
    async with fresh_database(tmp_path, clock) as database:
        sessions = Sessions(database, idle_s=60)
        old = await signed_in(database)
        clock.move(120)
        new = await signed_in(database)
        changes = await sessions.sign_out(holder(old), everywhere=True)
        assert targets(changes) == [("subject", new.account.id)]


async def test_with_a_session_that_a_thief_ended_its_owner_signs_the_thief_out(
    tmp_path: Path,
) -> None:
    """The answer is that all are over."""
    clock = Hands()
    async with fresh_database(tmp_path, clock) as database:
        sessions = Sessions(database)
        thief = await signed_in(database)
        owner = await signed_in(database)
        clock.move(60)
        await sessions.end(owner.session_id, "ended by its owner", owner=owner.account.id)
        newer = await signed_in(database)
        clock.move(60)
        changes = await sessions.sign_out(holder(owner), everywhere=True)
        assert targets(changes) == [
            ("session", owner.session_id),
            ("session", thief.session_id),
        ]
        # Told again until every worker has it, also by its refresh token.
        assert await sessions.sign_out(holder(owner), everywhere=True) == changes
        ended = await sessions.get(owner.session_id)
        assert ended is not None
        assert await sessions.sign_out_session(ended, everywhere=True) == changes
        left = await sessions.find_active(owner.account.id)
        assert [session.id for session in left] == [newer.session_id]


async def test_a_token_of_an_imported_key_is_refused_by_its_session(database: Database) -> None:
    grant = await signed_in(database)
    foreign = holder(grant, session_id="s-elsewhere", subject="u-elsewhere")
    changes = await Sessions(database).sign_out(foreign, everywhere=False)
    assert targets(changes) == [("session", "s-elsewhere")]
    everywhere = await Sessions(database).sign_out(foreign, everywhere=True)
    assert ("session", "s-elsewhere") in targets(everywhere)


async def test_a_token_of_an_imported_key_signs_its_subject_out_everywhere(
    tmp_path: Path,
) -> None:
    clock = Hands()
    async with fresh_database(tmp_path, clock) as database:
        grant = await signed_in(database)
        foreign = holder(grant, session_id="s-elsewhere", subject="u-elsewhere")
        changes = await Sessions(database).sign_out(foreign, everywhere=True)
        assert targets(changes) == [("subject", "u-elsewhere")]
        assert changes[0].not_before >= foreign.issued_at
        assert await Sessions(database).sign_out(foreign, everywhere=True) == changes


async def test_an_expired_token_of_an_imported_key_signs_nobody_out_everywhere(
    tmp_path: Path,
) -> None:
    clock = Hands()
    async with fresh_database(tmp_path, clock) as database:
        grant = await signed_in(database)
        foreign = holder(grant, session_id="s-elsewhere", subject="u-elsewhere")
        clock.move(900)
        changes = await Sessions(database).sign_out(foreign, everywhere=True)
        assert targets(changes) == [("session", "s-elsewhere")]


async def test_a_refresh_token_signs_out_everywhere_and_an_old_one_only_what_it_ended(
    database: Database,
) -> None:
    one, two = await signed_in(database), await signed_in(database)
    sessions = Sessions(database)
    family = await sessions.get(one.session_id)
    assert family is not None
    changes = await sessions.sign_out_session(family, everywhere=True)
    assert targets(changes) == [("subject", one.account.id)]
    assert await sessions.find_active(two.account.id) == []
    new = await signed_in(database)
    ended = await sessions.get(one.session_id)
    assert ended is not None
    assert await sessions.sign_out_session(ended, everywhere=True) == changes
    assert [live.id for live in await sessions.find_active(new.account.id)] == [new.session_id]


async def test_a_token_without_a_session_is_refused_by_itself(database: Database) -> None:
    grant = await signed_in(database)
    machine = holder(grant)
    machine.session_id = None
    changes = await Sessions(database).sign_out(machine, everywhere=True)
    assert targets(changes) == [("token", "the-jti")]
    assert len(await Sessions(database).find_active(grant.account.id)) == 1


async def test_a_token_that_names_somebody_elses_session_does_not_end_it(
    database: Database,
) -> None:
    # An imported key may sign any `sid`; the family is its account's alone.
    grant = await signed_in(database)
    forged = holder(grant, subject="somebody-else")
    changes = await Sessions(database).sign_out(forged, everywhere=False)
    assert targets(changes) == [("token", "the-jti")]
    assert len(await Sessions(database).find_active(grant.account.id)) == 1


async def test_only_the_owner_ends_a_session_by_its_id(database: Database) -> None:
    mine, theirs = await signed_in(database), await signed_in(database, "b@example.com")
    sessions = Sessions(database)
    assert await sessions.end(theirs.session_id, "x", owner=mine.account.id) is None
    assert await sessions.end("never-was", "x", owner=mine.account.id) is None
    ended = await sessions.end(mine.session_id, "x", owner=mine.account.id)
    assert targets(ended) == [("session", mine.session_id)]
    assert await sessions.end(mine.session_id, "x", owner=mine.account.id) == ended


async def test_a_changed_password_ends_every_other_session(database: Database) -> None:
    kept, lost = await signed_in(database), await signed_in(database)
    proof = Proof(kept.session_id, kept.account.password_hash)
    replaced = await Accounts(database).change_password(kept.account.id, "new", proof)
    assert not isinstance(replaced, Reason)
    assert targets(replaced.changes) == [("session", lost.session_id)]
    assert [f.id for f in await Sessions(database).find_active(kept.account.id)] == [
        kept.session_id
    ]


async def test_a_replaced_password_ends_every_session(database: Database) -> None:
    grant = await signed_in(database)
    changes = await reset_password(database, grant.account.id, "new")
    assert targets(changes) == [("subject", grant.account.id)]
    assert await Sessions(database).find_active(grant.account.id) == []


async def test_what_ends_and_the_change_that_tells_of_it_stand_or_fall_together(
    database: Database,
) -> None:
    grant = await signed_in(database)
    async with database.transaction() as tx:
        await tx.run("ALTER TABLE changes RENAME TO changes_away")
    with pytest.raises(Exception, match="a table is missing"):
        await Sessions(database).sign_out(holder(grant), everywhere=False)
    assert len(await Sessions(database).find_active(grant.account.id)) == 1


@pytest.mark.parametrize("kind", [ChangeKind.TOKEN, ChangeKind.SESSION])
async def test_a_token_or_session_is_refused_by_one_row_however_often(
    database: Database, kind: ChangeKind
) -> None:
    assert await refuse(database, kind, "x") == await refuse(database, kind, "x")


async def test_a_client_is_refused_anew_each_time(database: Database) -> None:
    # Its not-before must cover what it was given since.
    first = await refuse(database, ChangeKind.CLIENT, "c")
    assert await refuse(database, ChangeKind.CLIENT, "c") != first


async def test_families_that_are_long_over_are_purged_with_their_tokens(tmp_path: Path) -> None:
    clock = Hands()
    async with fresh_database(tmp_path, clock) as database:
        ended, expired, live = [await signed_in(database) for _ in range(3)]
        await Sessions(database).end(ended.session_id, "x")
        clock.move(86_401)
        await purge_sessions(database)
        assert await Sessions(database).get(ended.session_id) is None
        assert await Sessions(database).get(live.session_id) is not None
        clock.move(7 * 86_400)
        await purge_sessions(database)
        assert await Sessions(database).get(expired.session_id) is None
        async with database.read_transaction() as tx:
            assert await tx.all("SELECT * FROM refresh_tokens") == []


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        ("Mozilla/5.0", "Mozilla/5.0"),
        ("a\x1b[31mred\r\n", "a [31mred"),
        ("x" * 900, "x" * 256),
        ("", ""),
    ],
)
def test_a_user_agent_is_kept_printable_and_short(sent: str, shown: str) -> None:
    assert SignInSource(sent, "").shown_user_agent == shown


@pytest.mark.parametrize(
    ("created_at", "last_used_at", "told"),
    [(1_800, 1_800, 1_800), (1_900, 1_950, 1_900), (1_900, 2_700, 2_700), (1_900, 3_599, 2_700)],
)
def test_no_owner_learns_the_moment_of_a_refresh(
    created_at: int, last_used_at: int, told: int
) -> None:
    family = Session("f", "u", "a", "192.0.2.7", created_at, last_used_at, 10_000, None)
    assert family.seen_at == told
