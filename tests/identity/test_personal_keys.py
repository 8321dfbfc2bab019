"""Personal keys: whose they are, what limits them, and what ends them."""

from __future__ import annotations

import asyncio
import secrets
import tempfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.identity.accounts.account_rows import Account
from gateway.identity.accounts.accounts import Accounts, replace_password
from gateway.identity.clients.key_authenticator import ApiKeyAuthenticator
from gateway.identity.clients.key_form import looks_like_key, well_formed
from gateway.identity.clients.personal_keys import (
    KEPT_AFTER_END_S,
    KEYS_MAX,
    KeyLimits,
    KeyProblem,
    NewPersonalKey,
    PersonalKeys,
    personal_principal,
    purge_personal_keys,
)
from gateway.identity.opaque_tokens import hash_token
from gateway.identity.revocations import record
from gateway.identity.sessions.restore import newest_token_at
from gateway.identity.sessions.sessions import Sessions, SignInSource, outdate
from gateway.identity.sessions.token_dates import TooSoon
from gateway.identity.sign_in.refresh_tokens import (
    RefreshOptions,
    RefreshTokens,
    SessionGrant,
)
from gateway.model import (
    Call,
    Change,
    ChangeKind,
    Credential,
    CredentialKind,
    Principal,
    Reason,
    SystemClock,
)
from gateway.revocation.revocation_list import RevocationList
from gateway.stores.protocols import Database
from tests.databases import Hands, fresh_database

CALL = Call("GET", "h", "/", ("",), "", headers=(), client_ip="192.0.2.1", scheme="http")
YEAR_S = 365 * 86_400
ANY = KeyLimits()


class Person:
    """One account with a session, and what a worker knows of what was revoked."""

    def __init__(self, database: Database, clock: Hands | SystemClock) -> None:
        self.database = database
        self.accounts = Accounts(database)
        self.keys = PersonalKeys(database)
        self.revoked = RevocationList()
        self.authenticator = ApiKeyAuthenticator(database, self.revoked, clock)
        self.id = ""
        self.owner: Principal | None = None

    async def enter(self, *roles: str) -> None:
        email = f"ada-{secrets.token_hex(4)}@x.example"
        account = await self.accounts.register(email, "hash", roles=roles, verified=True)
        assert isinstance(account, Account)
        self.id = account.id
        await self.sign_in()

    async def sign_in(self) -> None:
        tokens = RefreshTokens(self.database, RefreshOptions())
        source = SignInSource("one", "192.0.2.1")
        grant = await tokens.begin(self.id, source, checked_hash="hash")
        if isinstance(grant, TooSoon):  # the clock was set back
            hands_of(self).move(grant.wait_s)
            grant = await tokens.begin(self.id, source, checked_hash="hash")
        assert isinstance(grant, SessionGrant)
        self.owner = Principal(
            self.id,
            (),
            grant.session_id,
            "t",
            None,
            kid="k",
            issued_at=grant.issued_at,
            expires_at=grant.issued_at + 900,
        )

    async def make(self, limits: KeyLimits = ANY, life_s: int = YEAR_S) -> NewPersonalKey:
        assert self.owner is not None
        made = await self.keys.create(self.owner, "laptop", limits, life_s)
        assert isinstance(made, NewPersonalKey), made
        return made

    async def who(self, text: str) -> Principal | Reason:
        """As `RequestAuthenticator` asks."""
        credential = Credential(CredentialKind.API_KEY, text)
        principal = await self.authenticator.authenticate(credential, CALL)
        if isinstance(principal, Reason):
            return principal
        return self.revoked.refusal(principal) or principal

    def apply(self, changes: Sequence[Change] | None) -> None:
        for change in changes or ():
            self.revoked.apply(change, 1e12)


@pytest.fixture
async def ada(tmp_path: Path) -> AsyncIterator[Person]:
    clock = Hands()
    async with fresh_database(tmp_path, clock) as opened:
        person = Person(opened, clock)
        await person.enter("reader", "writer")
        yield person


@pytest.fixture
async def anywhere(database: Database) -> Person:
    """On SQLite and on PostgreSQL."""
    person = Person(database, SystemClock())
    await person.enter("reader", "writer")
    return person


def hands_of(person: Person) -> Hands:
    clock = person.authenticator._clock
    assert isinstance(clock, Hands)
    return clock


async def test_a_key_is_its_person_as_of_now(anywhere: Person) -> None:
    made = await anywhere.make()
    assert made.text.startswith("agp_")
    assert looks_like_key(made.text)
    assert well_formed(made.text)
    principal = await anywhere.who(made.text)
    assert isinstance(principal, Principal)
    account = await anywhere.accounts.by_id(anywhere.id)
    assert account is not None
    assert (principal.subject, principal.email, principal.email_verified) == (
        account.id, account.email, True,
    )  # fmt: skip
    assert (principal.roles, principal.session_id, principal.client_id) == (
        ("reader", "writer"), None, None,
    )  # fmt: skip
    assert principal.held_roles is None
    assert (principal.token_id, principal.expires_at) == (made.key.id, made.key.expires_at)
    assert (principal.scopes, principal.routes, principal.auth_time) == (None, None, None)
    await anywhere.authenticator.write_uses()
    (shown,) = await anywhere.keys.find_active(anywhere.id)
    assert (shown.id, shown.name, shown.limits) == (made.key.id, "laptop", ANY)
    assert shown.last_used_at is not None
    assert made.text not in repr(made)


async def test_a_key_never_goes_beyond_its_limits(ada: Person) -> None:
    limits = KeyLimits(("reader",), ("orders:read",), ("orders", "files"))
    principal = await ada.who((await ada.make(limits)).text)
    assert isinstance(principal, Principal)
    assert (principal.roles, principal.scopes) == (("reader",), ("orders:read",))
    assert principal.held_roles == ("reader", "writer")
    assert principal.routes == frozenset(("orders", "files"))
    principal = await ada.who((await ada.make(KeyLimits(routes=("orders",)))).text)
    assert isinstance(principal, Principal)
    # Whoever asks whether anything limits it asks for scopes alone.
    assert (principal.scopes, principal.routes) == (("*",), frozenset(("orders",)))


async def test_a_key_cannot_have_a_role_that_its_person_lacks(ada: Person) -> None:
    assert ada.owner is not None
    made = await ada.keys.create(ada.owner, "k", KeyLimits(("admin",)), YEAR_S)
    assert made is KeyProblem.ROLE_NOT_HELD
    text = (await ada.make(KeyLimits(("writer",)))).text
    ada.apply(await ada.accounts.revoke(ada.id, "writer"))
    principal = await ada.who(text)
    assert isinstance(principal, Principal)
    assert (principal.roles, principal.held_roles) == ((), ("reader",))


async def test_a_role_that_takes_away_is_known_of_a_limited_key_on_the_next_call(
    anywhere: Person,
) -> None:
    text = (await anywhere.make(KeyLimits(("reader",)))).text
    before = await anywhere.who(text)
    assert isinstance(before, Principal)
    anywhere.apply(await anywhere.accounts.grant(anywhere.id, "suspended"))
    assert anywhere.revoked.refusal(before) is Reason.TOKEN_OUTDATED
    after = await anywhere.who(text)
    assert isinstance(after, Principal)
    assert (after.roles, after.held_roles) == (("reader",), ("reader", "suspended", "writer"))


async def test_a_role_change_holds_on_the_next_call(anywhere: Person) -> None:
    text = (await anywhere.make()).text
    for role in ("a", "b", "c"):
        before = await anywhere.who(text)
        assert isinstance(before, Principal)
        anywhere.apply(await anywhere.accounts.grant(anywhere.id, role))
        assert anywhere.revoked.refusal(before) is Reason.TOKEN_OUTDATED
        after = await anywhere.who(text)
        assert isinstance(after, Principal)
        assert role in after.roles


async def test_a_new_address_is_told_on_the_next_call(anywhere: Person) -> None:
    text = (await anywhere.make()).text
    before = await anywhere.who(text)
    assert isinstance(before, Principal)
    async with anywhere.database.transaction() as tx:
        email = f"new-{secrets.token_hex(4)}@x.example"
        await tx.run(
            "UPDATE accounts SET email = :email, email_key = :email WHERE id = :id",
            email=email,
            id=anywhere.id,
        )
        anywhere.apply([await outdate(tx, anywhere.id, Reason.TOKEN_OUTDATED)])
    assert anywhere.revoked.refusal(before) is Reason.TOKEN_OUTDATED
    after = await anywhere.who(text)
    assert isinstance(after, Principal)
    assert after.email == email


async def test_a_session_that_has_ended_makes_no_key(anywhere: Person) -> None:
    """A thief whose session was ended while the call was on its way."""
    assert anywhere.owner is not None
    await Sessions(anywhere.database).end(anywhere.owner.session_id or "", "owner")
    made = await anywhere.keys.create(anywhere.owner, "k", ANY, YEAR_S)
    assert made is Reason.TOKEN_REVOKED


async def test_a_key_that_ended_is_refused_also_on_its_way(anywhere: Person) -> None:
    made = await anywhere.make()
    on_its_way = await anywhere.who(made.text)
    assert isinstance(on_its_way, Principal)
    changes = await anywhere.keys.end(made.key.id, owner=anywhere.id)
    anywhere.apply(changes)
    assert anywhere.revoked.refusal(on_its_way) is Reason.TOKEN_REVOKED
    assert await anywhere.who(made.text) is Reason.TOKEN_REVOKED
    assert await anywhere.keys.find_active(anywhere.id) == []
    # It may be repeated until every worker has confirmed.
    assert await anywhere.keys.end(made.key.id, owner=anywhere.id) == changes
    assert await anywhere.keys.end(made.key.id, owner="somebody else") is None
    assert await anywhere.keys.end("pkey-0") is None


@pytest.mark.parametrize("how", ["disable", "delete", "reset", "operator"])
async def test_a_key_ends_with_its_account(anywhere: Person, how: str) -> None:
    text = (await anywhere.make()).text
    on_its_way = await anywhere.who(text)
    assert isinstance(on_its_way, Principal)
    if how == "reset":
        async with anywhere.database.transaction() as tx:
            changes = await replace_password(tx, anywhere.id, "new")
    elif how == "operator":
        changes = await anywhere.accounts.end_all(anywhere.id, "operator")
    else:
        changes = await getattr(anywhere.accounts, how)(anywhere.id)
    anywhere.apply(changes)
    assert anywhere.revoked.refusal(on_its_way) is Reason.TOKEN_REVOKED
    assert await anywhere.who(text) is Reason.TOKEN_REVOKED
    if how == "disable":
        await anywhere.accounts.enable(anywhere.id)
        assert await anywhere.who(text) is Reason.TOKEN_REVOKED


async def test_a_key_outlives_a_sign_out_everywhere(anywhere: Person) -> None:
    text = (await anywhere.make()).text
    assert isinstance(await anywhere.who(text), Principal)
    assert anywhere.owner is not None
    anywhere.apply(await Sessions(anywhere.database).sign_out(anywhere.owner, everywhere=True))
    assert isinstance(await anywhere.who(text), Principal)


async def test_a_key_expires(ada: Person) -> None:
    made = await ada.make(life_s=3_600)
    hands_of(ada).move(3_600)
    assert await ada.who(made.text) is Reason.TOKEN_EXPIRED
    assert await ada.keys.find_active(ada.id) == []


async def test_the_number_of_live_keys_is_bounded(ada: Person) -> None:
    assert ada.owner is not None
    made = [await ada.make() for _ in range(KEYS_MAX)]
    answers = await asyncio.gather(
        *(ada.keys.create(ada.owner, "k", ANY, YEAR_S) for _ in range(5))
    )
    assert set(answers) == {KeyProblem.TOO_MANY}
    await ada.keys.end(made[0].key.id)
    await ada.make()


async def test_what_is_over_is_deleted_a_day_later(ada: Person) -> None:
    ended, kept = await ada.make(), await ada.make()
    await ada.make(life_s=60)
    await ada.keys.end(ended.key.id)
    await purge_personal_keys(ada.database)
    async with ada.database.read_transaction() as tx:
        assert len(await tx.all("SELECT id FROM personal_keys")) == 3
    hands_of(ada).move(KEPT_AFTER_END_S + 61)
    await purge_personal_keys(ada.database)
    async with ada.database.read_transaction() as tx:
        rows = await tx.all("SELECT id FROM personal_keys")
    assert [row["id"] for row in rows] == [kept.key.id]


async def test_a_key_made_right_after_a_restore_is_good(ada: Person) -> None:
    """A restore refuses everyone's tokens up to the newest that was given, which may lie ahead."""
    async with ada.database.transaction() as tx:
        ahead = int(await tx.now()) + 3
        everyone = await record(
            tx, ChangeKind.EVERYONE, "*", Reason.TOKEN_REVOKED, not_before=ahead
        )
    ada.apply([everyone])
    assert isinstance(await ada.who((await ada.make()).text), Principal)


@pytest.mark.parametrize("changes", [0, 3])
async def test_a_restore_refuses_what_a_worker_read_of_a_key_whatever_the_time_is(
    ada: Person, changes: int
) -> None:
    """The clock was set back since the key was made, or each of several changes within one second
    has a second of its own: a stream that the key opened is to end all the same."""
    hands_of(ada).at += 600  # since the sign-in
    digest = hash_token((await ada.make()).text)
    for number in range(changes):
        await ada.accounts.grant(ada.id, f"r{number}")
    async with ada.database.read_transaction() as tx:
        principal = await personal_principal(tx, digest)
    assert isinstance(principal, Principal)
    if not changes:
        hands_of(ada).at -= 3600
    async with ada.database.transaction() as tx:
        newest_at = await newest_token_at(tx)
    assert newest_at >= principal.issued_at


async def test_a_key_rests_as_a_hash(ada: Person, tmp_path: Path) -> None:
    made = await ada.make()
    files = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert made.key.id.encode() in files
    assert made.text.encode() not in files


async def test_calls_that_ask_at_once_are_looked_up_a_few_times(ada: Person) -> None:
    text = (await ada.make()).text
    reads = 0
    real = ada.database.read_transaction

    def counted() -> object:
        nonlocal reads
        reads += 1
        return real()

    ada.database.read_transaction = counted  # type: ignore[method-assign,assignment]
    answers = await asyncio.gather(*(ada.who(text) for _ in range(200)))
    assert all(isinstance(answer, Principal) for answer in answers)
    assert reads <= 8


STEPS = st.lists(
    st.sampled_from(["grant", "revoke", "sign out", "sign in", "tick", "back", "read"]),
    max_size=12,
)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(STEPS)
def test_what_was_read_before_a_change_never_passes_after_it(steps: list[str]) -> None:
    """However the changes fall within one second, or the clock is set back between them."""
    asyncio.run(_walk(steps))


async def _walk(steps: list[str]) -> None:
    clock = Hands()
    with tempfile.TemporaryDirectory() as folder:
        async with fresh_database(Path(folder), clock) as opened:
            ada = Person(opened, clock)
            await ada.enter()
            digest = hash_token((await ada.make()).text)
            stale: list[Principal] = []
            seen: set[str] = set()
            for step in [*steps, "read"]:
                changes: Sequence[Change] = ()
                async with opened.read_transaction() as tx:
                    read = await personal_principal(tx, digest)
                assert isinstance(read, Principal)
                match step:
                    case "grant":
                        changes = await ada.accounts.grant(ada.id, "r")
                    case "revoke":
                        changes = await ada.accounts.revoke(ada.id, "r")
                    case "sign out":
                        assert ada.owner is not None
                        sessions = Sessions(opened)
                        changes = await sessions.sign_out(ada.owner, everywhere=True)
                    case "sign in":
                        await ada.sign_in()
                    case "tick":
                        clock.move(1)
                    case "back":
                        clock.move(-5)
                # A sign-out that is repeated gives the change of the first one again.
                new = [one for one in changes if one.id not in seen]
                seen |= {change.id for change in new}
                if any(change.kind is ChangeKind.SUBJECT for change in new):
                    stale.append(read)
                ada.apply(changes)
                assert all(ada.revoked.refusal(one) is not None for one in stale)
                async with opened.read_transaction() as tx:
                    fresh = await personal_principal(tx, digest)
                assert isinstance(fresh, Principal)
                assert ada.revoked.refusal(fresh) is None
