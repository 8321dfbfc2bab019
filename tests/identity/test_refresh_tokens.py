"""Refresh tokens: one token has one successor, and a thief ends the family."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.identity.accounts.account_facts import AccountFacts
from gateway.identity.accounts.account_rows import Account
from gateway.identity.accounts.accounts import Accounts, Proof
from gateway.identity.opaque_tokens import hash_token
from gateway.identity.sessions.purging import erase_sealed
from gateway.identity.sessions.sessions import Sessions, SignInSource
from gateway.identity.sessions.token_dates import TooSoon
from gateway.identity.sign_in.refresh_tokens import (
    RefreshOptions,
    RefreshTokens,
    ReuseDetected,
    SessionGrant,
)
from gateway.identity.tokens.access_tokens import IAT_AHEAD_S
from gateway.model import ChangeKind, Reason
from gateway.stores.protocols import Database
from tests.databases import NOON, Hands, fresh_database, reset_password
from tests.identity.begun_sessions import caller_of
from tests.identity.test_session_proofs import RULE, TERM_S

BROWSER = "Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0"
ORIGIN = SignInSource(BROWSER, "192.0.2.7")


@pytest.fixture
def clock() -> Hands:
    return Hands()


@pytest.fixture
async def timed(tmp_path: Path, clock: Hands) -> AsyncIterator[Database]:
    async with fresh_database(tmp_path, clock) as database:
        yield database


async def signed_in(database: Database, email: str = "a@example.com") -> SessionGrant:
    accounts = Accounts(database)
    await accounts.register(email, "hash")
    account = await accounts.by_email(email)
    assert account is not None
    grant = await RefreshTokens(database, RefreshOptions()).begin(
        account.id, ORIGIN, checked_hash="hash"
    )
    assert isinstance(grant, SessionGrant)
    return grant


async def rotated(tokens: RefreshTokens, token: str, origin: SignInSource = ORIGIN) -> SessionGrant:
    grant = await tokens.rotate(token, origin)
    assert isinstance(grant, SessionGrant)
    return grant


async def test_a_refresh_gives_a_new_token_of_the_same_session(database: Database) -> None:
    first = await signed_in(database)
    second = await rotated(RefreshTokens(database, RefreshOptions()), first.refresh_token)
    assert second.refresh_token != first.refresh_token
    assert second.session_id == first.session_id
    assert second.auth_time == first.auth_time
    assert second.amr == ("pwd",)


async def test_fifty_concurrent_refreshes_have_one_successor(database: Database) -> None:
    first = await signed_in(database)
    tokens = RefreshTokens(database, RefreshOptions())
    grants = await asyncio.gather(*(rotated(tokens, first.refresh_token) for _ in range(50)))
    assert len({grant.refresh_token for grant in grants}) == 1
    async with database.read_transaction() as tx:
        assert len(await tx.all("SELECT hash FROM refresh_tokens")) == 2


async def test_a_second_use_by_the_same_client_gets_the_same_successor(
    timed: Database, clock: Hands
) -> None:
    first = await signed_in(timed)
    tokens = RefreshTokens(timed, RefreshOptions())
    second = await rotated(tokens, first.refresh_token)
    clock.move(10)
    assert (await rotated(tokens, first.refresh_token)).refresh_token == second.refresh_token


async def test_a_second_use_after_ten_seconds_ends_the_family(
    timed: Database, clock: Hands
) -> None:
    first = await signed_in(timed)
    tokens = RefreshTokens(timed, RefreshOptions())
    second = await rotated(tokens, first.refresh_token)
    clock.move(11)
    reused = await tokens.rotate(first.refresh_token, ORIGIN)
    assert isinstance(reused, ReuseDetected)
    (change,) = reused.changes
    assert (change.kind, change.target) == (ChangeKind.SESSION, first.session_id)
    assert change.cause is Reason.TOKEN_REVOKED
    assert await tokens.rotate(second.refresh_token, ORIGIN) is Reason.INVALID_REFRESH_TOKEN
    assert await tokens.rotate(first.refresh_token, ORIGIN) is Reason.INVALID_REFRESH_TOKEN


async def test_a_second_use_by_another_client_ends_the_family_at_once(database: Database) -> None:
    first = await signed_in(database)
    tokens = RefreshTokens(database, RefreshOptions())
    second = await rotated(tokens, first.refresh_token)
    assert isinstance(
        await tokens.rotate(first.refresh_token, SignInSource("curl/8", ORIGIN.address)),
        ReuseDetected,
    )
    assert await tokens.rotate(second.refresh_token, ORIGIN) is Reason.INVALID_REFRESH_TOKEN


async def test_a_reuse_is_judged_however_much_a_thief_has_renewed(database: Database) -> None:
    """Who empties the session's limit, and polls for what comes back, would else never be ended."""
    asked: list[str] = []

    async def used_up(session_id: str, account_id: str | None = None) -> float:
        asked.append(session_id)
        return 1.0

    first = await signed_in(database)
    tokens = RefreshTokens(database, RefreshOptions())
    second = await rotated(tokens, first.refresh_token)
    assert await tokens.rotate(first.refresh_token, ORIGIN, used_up) == TooSoon(1.0)  # the grace
    assert await tokens.rotate(second.refresh_token, ORIGIN, used_up) == TooSoon(1.0)
    assert len(asked) == 2
    owner = SignInSource("curl/8", ORIGIN.address)
    assert isinstance(await tokens.rotate(first.refresh_token, owner, used_up), ReuseDetected)
    for token in (first.refresh_token, second.refresh_token):
        assert await tokens.rotate(token, owner, used_up) is Reason.INVALID_REFRESH_TOKEN
    assert len(asked) == 2


async def test_a_used_token_of_what_is_over_holds_no_account(
    timed: Database, clock: Hands, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It can be sent again and again, and is not counted."""
    first = await signed_in(timed)
    tokens = RefreshTokens(timed, RefreshOptions())
    await rotated(tokens, first.refresh_token)
    clock.move(RefreshOptions().life_s + 1)
    monkeypatch.setattr(timed, "transaction", None)
    assert await tokens.rotate(first.refresh_token, ORIGIN) is Reason.INVALID_REFRESH_TOKEN


async def test_a_reuse_is_judged_behind_the_term_of_a_second_factor(
    timed: Database, clock: Hands
) -> None:
    tokens = RefreshTokens(timed, RefreshOptions(), lambda: RULE)
    first = await signed_in(timed)
    second = await rotated(tokens, first.refresh_token)
    clock.move(TERM_S)
    refusal = Reason.INSUFFICIENT_USER_AUTHENTICATION
    assert await tokens.rotate(second.refresh_token, ORIGIN) is refusal
    assert isinstance(await tokens.rotate(first.refresh_token, ORIGIN), ReuseDetected)
    assert await tokens.rotate(second.refresh_token, ORIGIN) is Reason.INVALID_REFRESH_TOKEN


async def test_the_grace_is_exact_to_the_millisecond(timed: Database, clock: Hands) -> None:
    tokens = RefreshTokens(timed, RefreshOptions())
    clock.move(0.9)
    first, other = await signed_in(timed), await signed_in(timed, "b@example.com")
    await rotated(tokens, first.refresh_token)
    await rotated(tokens, other.refresh_token)
    clock.move(9.999)
    await rotated(tokens, first.refresh_token)
    clock.move(0.002)
    assert isinstance(await tokens.rotate(other.refresh_token, ORIGIN), ReuseDetected)


@pytest.mark.parametrize(
    ("owner", "thief"),
    [("192.0.2.7", "198.51.100.7"), ("2001:db8:0:1::7", "2001:db8:0:2::7"),
     ("192.0.2.7", "192.0.3.7")],
)  # fmt: skip
async def test_a_thief_on_another_network_does_not_follow_the_session(
    timed: Database, owner: str, thief: str
) -> None:
    """They know the User-Agent, and come within the grace."""
    first = await signed_in(timed)
    tokens = RefreshTokens(timed, RefreshOptions())
    second = await rotated(tokens, first.refresh_token, SignInSource(BROWSER, owner))
    assert isinstance(
        await tokens.rotate(first.refresh_token, SignInSource(BROWSER, thief)), ReuseDetected
    )
    assert await tokens.rotate(second.refresh_token, ORIGIN) is Reason.INVALID_REFRESH_TOKEN


@pytest.mark.parametrize(
    ("one", "other"),
    [("192.0.2.7", "192.0.2.200"), ("2001:db8::7", "2001:db8::ffff:1"),
     ("192.0.2.7", "::ffff:192.0.2.9")],
)  # fmt: skip
async def test_a_client_whose_address_moves_within_its_network_is_the_same(
    timed: Database, one: str, other: str
) -> None:
    first = await signed_in(timed)
    tokens = RefreshTokens(timed, RefreshOptions())
    second = await rotated(tokens, first.refresh_token, SignInSource(BROWSER, one))
    again = await rotated(tokens, first.refresh_token, SignInSource(BROWSER, other))
    assert (again.refresh_token, again.repeated) == (second.refresh_token, True)


async def test_the_grace_ends_when_the_successor_is_used(timed: Database, clock: Hands) -> None:
    first = await signed_in(timed)
    tokens = RefreshTokens(timed, RefreshOptions())
    second = await rotated(tokens, first.refresh_token)
    third = await rotated(tokens, second.refresh_token)
    clock.move(1)
    assert isinstance(await tokens.rotate(first.refresh_token, ORIGIN), ReuseDetected)
    assert await tokens.rotate(third.refresh_token, ORIGIN) is Reason.INVALID_REFRESH_TOKEN


async def test_a_clock_set_back_an_hour_does_not_stretch_the_grace(
    timed: Database, clock: Hands
) -> None:
    first = await signed_in(timed)
    tokens = RefreshTokens(timed, RefreshOptions())
    await rotated(tokens, first.refresh_token)
    clock.move(-3600)
    assert isinstance(await tokens.rotate(first.refresh_token, ORIGIN), ReuseDetected)


@pytest.mark.parametrize("token", ["", "x", "x" * 43, "\ud800", "'; DROP TABLE families; --"])
async def test_what_was_never_given_is_invalid(sqlite_database: Database, token: str) -> None:
    tokens = RefreshTokens(sqlite_database, RefreshOptions())
    assert await tokens.rotate(token, ORIGIN) is Reason.INVALID_REFRESH_TOKEN


async def test_a_family_ends_seven_days_after_the_sign_in(timed: Database, clock: Hands) -> None:
    grant = await signed_in(timed)
    tokens = RefreshTokens(timed, RefreshOptions())
    for day in range(1, 7):
        clock.move(86_400)
        grant = await rotated(tokens, grant.refresh_token)
        assert grant.expires_in_s == (7 - day) * 86_400
    clock.move(86_400)
    assert await tokens.rotate(grant.refresh_token, ORIGIN) is Reason.INVALID_REFRESH_TOKEN


async def test_a_family_that_is_not_used_ends_when_an_idle_time_is_set(
    timed: Database, clock: Hands
) -> None:
    grant = await signed_in(timed)
    tokens = RefreshTokens(timed, RefreshOptions(idle_s=3600))
    clock.move(3599)
    grant = await rotated(tokens, grant.refresh_token)
    clock.move(3600)
    assert await tokens.rotate(grant.refresh_token, ORIGIN) is Reason.INVALID_REFRESH_TOKEN
    assert await Sessions(timed, idle_s=3600).find_active(grant.account.id) == []


async def test_a_refresh_brings_the_roles_of_now(database: Database) -> None:
    first = await signed_in(database)
    await Accounts(database).grant(first.account.id, "manager")
    second = await rotated(RefreshTokens(database, RefreshOptions()), first.refresh_token)
    assert second.account.roles == ("manager",)


async def test_a_token_minted_right_after_a_change_is_not_refused_by_it(
    timed: Database, clock: Hands
) -> None:
    grant = await signed_in(timed)
    accounts, tokens = Accounts(timed), RefreshTokens(timed, RefreshOptions())
    (change,) = await accounts.grant(grant.account.id, "manager")
    grant = await rotated(tokens, grant.refresh_token)
    assert grant.issued_at > change.not_before
    assert clock.at == NOON


async def test_a_change_refuses_even_a_token_that_is_ahead_of_the_clock(timed: Database) -> None:
    # Two changes in one second: the token between them has an `iat` of the next second.
    grant = await signed_in(timed)
    accounts, tokens = Accounts(timed), RefreshTokens(timed, RefreshOptions())
    await accounts.grant(grant.account.id, "manager")
    grant = await rotated(tokens, grant.refresh_token)
    (change,) = await accounts.revoke(grant.account.id, "manager")
    assert grant.issued_at <= change.not_before
    assert (await rotated(tokens, grant.refresh_token)).issued_at > change.not_before


async def test_a_change_refuses_a_token_given_again_in_the_grace(
    timed: Database, clock: Hands
) -> None:
    first = await signed_in(timed)
    accounts, tokens = Accounts(timed), RefreshTokens(timed, RefreshOptions())
    await rotated(tokens, first.refresh_token)
    clock.move(9)
    again = await rotated(tokens, first.refresh_token)
    clock.move(-5)
    (change,) = await accounts.grant(first.account.id, "manager")
    assert again.issued_at <= change.not_before


async def test_who_signs_in_and_out_everywhere_again_and_again_gets_no_token_of_a_time_to_come(
    timed: Database, clock: Hands
) -> None:
    """A revocation is remembered for two days: a token that begins later would outlive it, and the
    owner, whose tokens come after it, would have none that is good before."""
    grant = await signed_in(timed)
    sessions, tokens = Sessions(timed), RefreshTokens(timed, RefreshOptions())
    given = [grant]
    for _ in range(20):
        session = await sessions.get(given[-1].session_id)
        assert session is not None
        await sessions.sign_out_session(session, everywhere=True)
        begun = await tokens.begin(grant.account.id, ORIGIN, checked_hash="hash")
        if isinstance(begun, SessionGrant):
            given.append(begun)
    assert max(grant.issued_at for grant in given) - NOON < IAT_AHEAD_S
    begun = await tokens.begin(grant.account.id, ORIGIN, checked_hash="hash")
    assert isinstance(begun, TooSoon)
    clock.move(begun.wait_s)
    assert isinstance(
        await tokens.begin(grant.account.id, ORIGIN, checked_hash="hash"), SessionGrant
    )


async def test_who_changes_their_own_attributes_again_and_again_gets_no_token_of_a_time_to_come(
    timed: Database, clock: Hands
) -> None:
    """Each change outdates what the session was given, and reading the account again for a cookie
    gives the session a later date: with many sessions at once that was a second for each change."""
    account_id = (await signed_in(timed)).account.id
    facts, tokens = AccountFacts(timed), RefreshTokens(timed, RefreshOptions())
    session = await tokens.begin(account_id, ORIGIN, checked_hash="hash", cookie_hash="c" * 43)
    assert isinstance(session, SessionGrant)
    changes = []
    for number in range(20):
        changes.append(
            await facts.put_own_attributes(caller_of(session), {"nickname": f"n{number}"})
        )
        renewed = await tokens.renew(session.session_id)
        assert renewed is not None
        assert renewed.issued_at - NOON < IAT_AHEAD_S
    wait = changes[-1]
    assert isinstance(wait, TooSoon)
    begun = await tokens.begin(account_id, ORIGIN, checked_hash="hash")
    clock.move(wait.wait_s)
    if isinstance(begun, TooSoon):
        begun = await tokens.begin(account_id, ORIGIN, checked_hash="hash")
    assert isinstance(begun, SessionGrant)
    changed = await facts.put_own_attributes(caller_of(session), {"nickname": "Al"})
    assert not isinstance(changed, TooSoon | Reason)
    assert len(changed) == 1


async def test_a_change_after_the_clock_was_set_back_refuses_what_was_given_before(
    timed: Database, clock: Hands
) -> None:
    grant = await signed_in(timed)
    clock.move(-3600)
    (change,) = await Accounts(timed).disable(grant.account.id)
    assert grant.issued_at <= change.not_before


async def test_a_disabled_account_gets_no_refresh(database: Database) -> None:
    grant = await signed_in(database)
    await Accounts(database).disable(grant.account.id)
    await Accounts(database).enable(grant.account.id)
    tokens = RefreshTokens(database, RefreshOptions())
    assert await tokens.rotate(grant.refresh_token, ORIGIN) is Reason.INVALID_REFRESH_TOKEN


async def test_a_deleted_accounts_token_is_invalid(database: Database) -> None:
    grant = await signed_in(database)
    await Accounts(database).delete(grant.account.id)
    tokens = RefreshTokens(database, RefreshOptions())
    assert await tokens.rotate(grant.refresh_token, ORIGIN) is Reason.INVALID_REFRESH_TOKEN


async def test_a_password_changed_while_it_was_checked_begins_no_session(
    database: Database,
) -> None:
    account = await Accounts(database).register("a@example.com", "old hash")
    assert isinstance(account, Account)
    await reset_password(database, account.id, "new hash")
    begun = await RefreshTokens(database, RefreshOptions()).begin(
        account.id, ORIGIN, checked_hash="old hash"
    )
    assert begun is Reason.INVALID_CREDENTIALS


async def test_a_disabled_or_unverified_account_begins_no_session(database: Database) -> None:
    account = await Accounts(database).register("a@example.com", "hash")
    assert isinstance(account, Account)
    tokens = RefreshTokens(database, RefreshOptions())
    begun = await tokens.begin(account.id, ORIGIN, checked_hash="hash", verified_only=True)
    assert begun is Reason.EMAIL_UNVERIFIED
    await Accounts(database).disable(account.id)
    assert await tokens.begin(account.id, ORIGIN, checked_hash="hash") is Reason.ACCOUNT_DISABLED


async def test_a_dump_of_the_store_opens_no_session(database: Database) -> None:
    first = await signed_in(database)
    second = await rotated(RefreshTokens(database, RefreshOptions()), first.refresh_token)
    async with database.read_transaction() as tx:
        dump = str([dict(row) for row in await tx.all("SELECT * FROM refresh_tokens")])
    for token in (first.refresh_token, second.refresh_token):
        assert token not in dump
        assert hash_token(token) in dump
        assert (
            await RefreshTokens(database, RefreshOptions()).rotate(hash_token(token), ORIGIN)
            is Reason.INVALID_REFRESH_TOKEN
        )


async def test_the_sealed_successor_is_erased_after_the_grace(
    timed: Database, clock: Hands
) -> None:
    first = await signed_in(timed)
    await rotated(RefreshTokens(timed, RefreshOptions()), first.refresh_token)
    await erase_sealed(timed)
    sealed = "SELECT hash FROM refresh_tokens WHERE successor_sealed IS NOT NULL"
    async with timed.read_transaction() as tx:
        assert len(await tx.all(sealed)) == 1
    clock.move(11)
    await erase_sealed(timed)
    async with timed.read_transaction() as tx:
        assert await tx.all(sealed) == []


async def test_a_damaged_successor_ends_the_session_and_opens_none(database: Database) -> None:
    first = await signed_in(database)
    tokens = RefreshTokens(database, RefreshOptions())
    await rotated(tokens, first.refresh_token)
    async with database.transaction() as tx:
        await tx.run("UPDATE refresh_tokens SET successor_sealed = :s", s="A" * 90)
    assert isinstance(await tokens.rotate(first.refresh_token, ORIGIN), ReuseDetected)


async def test_a_successor_sealed_for_another_family_does_not_open(database: Database) -> None:
    # Whoever can write the store must not move a session into another one.
    one, two = await signed_in(database), await signed_in(database)
    tokens = RefreshTokens(database, RefreshOptions())
    await rotated(tokens, one.refresh_token)
    async with database.transaction() as tx:
        await tx.run(
            "UPDATE refresh_tokens SET family_id = :other WHERE hash = :hash",
            other=two.session_id,
            hash=hash_token(one.refresh_token),
        )
    assert isinstance(await tokens.rotate(one.refresh_token, ORIGIN), ReuseDetected)


HERE, AGENT, NETWORK = (
    SignInSource("a", "192.0.2.7"),
    SignInSource("b", "192.0.2.7"),
    SignInSource("a", "192.0.3.7"),
)
STEPS = st.lists(
    st.tuples(
        st.integers(0, 5),
        st.sampled_from([HERE, HERE, HERE, AGENT, NETWORK]),
        st.sampled_from([0, 1, 4, 9.999, 10, 10.001, 12]),
    ),
    max_size=12,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(STEPS)
async def test_in_any_order_of_uses_there_is_one_line_of_successors(
    steps: list[tuple[int, SignInSource, float]],
) -> None:
    """Each step waits, then presents the nth token that was ever given, from one of three places."""
    clock = Hands()
    with TemporaryDirectory() as folder:
        async with fresh_database(Path(folder), clock) as database:
            tokens = RefreshTokens(database, RefreshOptions())
            line = [(await signed_in(database)).refresh_token]
            used_ms: dict[str, tuple[int, SignInSource]] = {}
            over = False
            for nth, client, wait_s in steps:
                clock.move(wait_s)
                now_ms = int(clock.at * 1000)
                token = line[nth % len(line)]
                answer = await tokens.rotate(token, client)
                if over:
                    assert answer is Reason.INVALID_REFRESH_TOKEN
                elif token not in used_ms:
                    assert isinstance(answer, SessionGrant)
                    assert answer.refresh_token not in line
                    used_ms[token] = (now_ms, client)
                    line.append(answer.refresh_token)
                elif (
                    now_ms - used_ms[token][0] <= 10_000
                    and client == used_ms[token][1]
                    and line[line.index(token) + 1] not in used_ms
                ):
                    assert isinstance(answer, SessionGrant)
                    assert answer.repeated
                    assert answer.refresh_token == line[line.index(token) + 1]
                else:
                    assert isinstance(answer, ReuseDetected)
                    over = True


async def test_whatever_happens_at_once_the_last_change_refuses_every_token(
    database: Database,
) -> None:
    """Refreshes, role changes and sign-outs of one account, all at the same time."""
    accounts, sessions = Accounts(database), Sessions(database)
    tokens = RefreshTokens(database, RefreshOptions())
    grants = [await signed_in(database) for _ in range(6)]
    account_id = grants[0].account.id
    answers = await asyncio.gather(
        *(tokens.rotate(grant.refresh_token, ORIGIN) for grant in grants for _ in range(2)),
        *(accounts.grant(account_id, f"role-{n}") for n in range(4)),
        *(sessions.end(grant.session_id, "x") for grant in grants[:2]),
        accounts.change_password(account_id, "new", Proof(grants[5].session_id, "hash")),
        tokens.begin(account_id, ORIGIN, checked_hash="hash"),
    )
    given = [answer for answer in (*grants, *answers) if isinstance(answer, SessionGrant)]
    (change,) = await accounts.disable(account_id)
    assert all(grant.issued_at <= change.not_before for grant in given)
    for grant in given:
        assert await tokens.rotate(grant.refresh_token, ORIGIN) is Reason.INVALID_REFRESH_TOKEN
