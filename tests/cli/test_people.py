"""`gateway users|roles|sessions|revoke` on an installation that no gateway serves now."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

from gateway.cli import main
from gateway.identity.accounts.accounts import Accounts
from gateway.identity.clients.personal_keys import KeyLimits, NewPersonalKey, PersonalKeys
from gateway.identity.factors.recovery_codes import make_codes
from gateway.identity.sessions.sessions import SignInSource
from gateway.identity.sign_in.refresh_tokens import RefreshOptions, RefreshTokens, SessionGrant
from gateway.model import Principal
from gateway.stores.open_database import open_database
from gateway.stores.protocols import Database
from tests.cli.installed import GOOD, NO, UNREACHABLE, USAGE, Gateway

T = TypeVar("T")
EMAIL = "alice@example.com"


def inside(folder: Path, work: Callable[[Database], Awaitable[T]]) -> T:
    """Does something to the installation that no command does."""

    async def whole() -> T:
        database = open_database(f"sqlite:///{folder}/gateway.db")
        try:
            return await work(database)
        finally:
            await database.close()

    return asyncio.run(whole())


def sign_in(folder: Path) -> str:
    """A session's id."""

    async def work(database: Database) -> str:
        account = await Accounts(database).by_email(EMAIL)
        assert account is not None
        grant = await RefreshTokens(database, RefreshOptions()).begin(
            account.id, SignInSource("agent \x9b", "192.0.2.7"), checked_hash=account.password_hash
        )
        assert isinstance(grant, SessionGrant)
        return grant.session_id

    return inside(folder, work)


def changes(folder: Path) -> list[tuple[str, str, str]]:
    async def work(database: Database) -> list[tuple[str, str, str]]:
        async with database.read_transaction() as tx:
            rows = await tx.all("SELECT kind, target, cause FROM changes ORDER BY created_at")
        return [(row["kind"], row["target"], row["cause"]) for row in rows]

    return inside(folder, work)


def made(gateway: Gateway) -> dict[str, Any]:
    code, out = gateway("users", "create", EMAIL, "--role", "viewer", "--json")
    assert code == GOOD
    return dict(json.loads(out))


def test_a_made_account_is_shown_with_its_password_once(gateway: Gateway) -> None:
    fields = made(gateway)
    assert fields.keys() == {
        "user_id",
        "email",
        "roles",
        "verified",
        "disabled",
        "created_at",
        "password",
    }
    assert len(fields["password"]) == 24
    code, out = gateway("users", "show", EMAIL, "--json")
    assert code == GOOD
    assert json.loads(out) == {
        **{k: v for k, v in fields.items() if k != "password"},
        "attributes": {},
        "tenants": {},
        "sessions": 0,
        "factors": [],
        "recovery_codes_left": 0,
        "factor_term_began_at": None,
    }


def test_no_command_shows_a_hash_or_a_token(gateway: Gateway, folder: Path) -> None:
    # CVE-2019-12452: an API returned password hashes.
    made(gateway)
    sign_in(folder)
    for words in (["users", "list"], ["users", "show", EMAIL], ["sessions", "list", EMAIL]):
        for form in ([], ["--json"]):
            code, out = gateway(*words, *form)
            assert code == GOOD
            assert "$2b$" not in out
            assert "hash" not in out


def test_a_password_is_read_from_standard_input(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("correct horse 7 battery\nmore\n"))
    code, out = gateway("users", "create", EMAIL, "--password-stdin", "--verified", "--json")
    assert code == GOOD
    assert json.loads(out)["verified"] is True
    assert "password" not in json.loads(out)


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("password1\n", NO),
        ("", USAGE),
        ("\n", USAGE),
        # As Python reads a byte that is not UTF-8: nobody could sign in with it.
        ("h\udcfcbsches langes Pferd 7\n", USAGE),
        ("correct horse\x00 7 battery\n", USAGE),
    ],
)
def test_a_weak_or_missing_password_makes_no_account(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, line: str, code: int
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(line))
    assert gateway("users", "create", EMAIL, "--password-stdin")[0] == code
    assert gateway("users", "show", EMAIL)[0] == NO


def test_a_taken_address_is_no_and_a_wrong_one_is_wrong_usage(gateway: Gateway) -> None:
    made(gateway)
    assert gateway("users", "create", "ALICE@example.com")[0] == NO
    assert gateway("users", "create", "a@evil@company.com")[0] == USAGE
    assert gateway("users", "create", "b@example.com", "--role", "a b")[0] == USAGE
    assert gateway("users", "create")[0] == USAGE


def test_accounts_are_listed_in_plain_columns(gateway: Gateway) -> None:
    made(gateway)
    code, out = gateway("users", "list")
    head, line = out.splitlines()
    assert code == GOOD
    assert head.split() == ["email", "user", "id", "roles", "verified", "disabled", "created", "at"]
    assert line.startswith(f"{EMAIL}  ")


@pytest.mark.parametrize(
    "words",
    [
        ["users", "show"],
        ["users", "disable"],
        ["users", "enable"],
        ["users", "unlock"],
        ["users", "delete", "--yes"],
        ["sessions", "list"],
        ["revoke", "user"],
        ["roles", "list"],
    ],
)
def test_an_unknown_account_is_no(gateway: Gateway, words: list[str]) -> None:
    assert gateway(*words, "nobody@example.com")[0] == NO


def test_a_reset_removes_every_factor_ends_the_sessions_and_is_told(
    gateway: Gateway, folder: Path
) -> None:
    fields = made(gateway)
    sign_in(folder)

    async def enrol(database: Database) -> None:
        async with database.transaction() as tx:
            await tx.run("UPDATE accounts SET email_verified = 1")
            await tx.run(
                "INSERT INTO totp_factors (id, account_id, sealed_secret, begun_by, created_at,"
                " confirmed_at, last_step) VALUES ('totp-1', :id, 'x', 'sid', 1, 1, 0)",
                id=fields["user_id"],
            )
            await make_codes(tx, fields["user_id"])

    inside(folder, enrol)
    shown = json.loads(gateway("users", "show", EMAIL, "--json")[1])
    assert (shown["factors"], shown["recovery_codes_left"]) == (["totp"], 10)
    assert gateway("users", "reset-factors", EMAIL)[0] == GOOD
    shown = json.loads(gateway("users", "show", EMAIL, "--json")[1])
    assert (shown["factors"], shown["recovery_codes_left"], shown["sessions"]) == ([], 0, 0)

    async def mails(database: Database) -> list[str]:
        async with database.read_transaction() as tx:
            return [row["template"] for row in await tx.all("SELECT template FROM outbox")]

    assert inside(folder, mails) == ["factors_reset"]
    assert "factors_reset" in gateway("audit", "tail", "--all")[1]
    assert gateway("users", "reset-factors", "nobody@example.com")[0] == NO


def test_disabling_ends_the_sessions_and_revokes_the_tokens(gateway: Gateway, folder: Path) -> None:
    fields = made(gateway)
    sign_in(folder)
    assert gateway("users", "disable", EMAIL)[0] == GOOD
    assert changes(folder) == [("subject", fields["user_id"], "token_revoked")]
    assert json.loads(gateway("users", "show", EMAIL, "--json")[1])["disabled"] is True
    assert json.loads(gateway("sessions", "list", EMAIL, "--json")[1]) == []
    assert gateway("users", "enable", EMAIL)[0] == GOOD
    assert json.loads(gateway("users", "show", EMAIL, "--json")[1])["disabled"] is False


def test_deleting_leaves_only_the_refusal(gateway: Gateway, folder: Path) -> None:
    fields = made(gateway)
    assert gateway("users", "delete", EMAIL, "--yes")[0] == GOOD
    assert gateway("users", "show", EMAIL)[0] == NO
    assert changes(folder) == [("subject", fields["user_id"], "token_revoked")]


@pytest.mark.parametrize("kind", ["users", "clients"])
def test_nothing_is_erased_unasked_where_nobody_can_be_asked(gateway: Gateway, kind: str) -> None:
    """A script that lost its terminal must not erase what a person would have kept."""
    made(gateway)
    gateway("clients", "create", EMAIL)
    code, _ = gateway(kind, "delete", EMAIL)
    assert code == USAGE
    assert EMAIL in gateway(kind, "list")[1]


def test_who_gives_what_to_an_address_that_nobody_confirmed_is_warned(
    gateway: Gateway,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With `optional` whoever registered it first has the account."""
    account = made(gateway)
    monkeypatch.setenv("GATEWAY_EMAIL_VERIFICATION", "optional")
    for verified in (False, True):
        for who in (EMAIL, account["user_id"]):
            capsys.readouterr()
            for change in ("grant", "revoke"):
                assert main(["roles", change, who, "manager"]) == GOOD
                warned = "nobody has confirmed this address" in capsys.readouterr().err
                assert warned == (change == "grant" and "@" in who and not verified)

        async def verify(database: Database) -> None:
            async with database.transaction() as tx:
                await tx.run("UPDATE accounts SET email_verified = 1")

        inside(folder, verify)


def test_unlocking_needs_the_counters_that_rest_with_the_gateway(gateway: Gateway) -> None:
    made(gateway)
    assert gateway("users", "unlock", EMAIL)[0] == UNREACHABLE


def test_a_role_change_outdates_tokens(gateway: Gateway, folder: Path) -> None:
    fields = made(gateway)
    assert gateway("roles", "grant", EMAIL, "manager")[0] == GOOD
    assert gateway("roles", "grant", EMAIL, "manager")[0] == GOOD
    assert gateway("roles", "revoke", EMAIL, "viewer")[0] == GOOD
    assert gateway("roles", "revoke", EMAIL, "viewer")[0] == NO
    assert changes(folder) == [("subject", fields["user_id"], "token_outdated")] * 2
    assert json.loads(gateway("roles", "list", "--json")[1]) == [{"role": "manager", "accounts": 1}]
    assert json.loads(gateway("roles", "list", EMAIL, "--json")[1]) == [{"role": "manager"}]


def test_a_role_that_a_provider_gives_becomes_the_operators_gift(
    gateway: Gateway, folder: Path
) -> None:
    fields = made(gateway)

    async def give(database: Database) -> None:
        async with database.transaction() as tx:
            await tx.run(
                "INSERT INTO linked_identities (id, account_id, issuer, subject, provider,"
                " linked_at, last_used_at) VALUES ('i', :id, 'https://x', 's', 'company', 1, 1)",
                id=fields["user_id"],
            )
            await tx.run("INSERT INTO linked_roles (identity_id, role) VALUES ('i', 'manager')")

    inside(folder, give)
    for _ in range(2):
        assert gateway("roles", "grant", EMAIL, "manager")[0] == GOOD
    events = gateway("audit", "tail", "--all", "--json")[1].splitlines()
    assert sum("manager" in event for event in events) == 1
    assert changes(folder) == [("subject", fields["user_id"], "token_outdated")]


@pytest.mark.parametrize("role", ["a b", "a,b", "ä", "", "x" * 129])
def test_a_role_that_no_token_may_carry_is_wrong_usage(gateway: Gateway, role: str) -> None:
    made(gateway)
    assert gateway("roles", "grant", EMAIL, role)[0] == USAGE


def test_a_session_is_listed_and_ended_by_its_id(gateway: Gateway, folder: Path) -> None:
    made(gateway)
    sid = sign_in(folder)
    (listed,) = json.loads(gateway("sessions", "list", EMAIL, "--json")[1])
    assert listed["id"] == sid
    assert listed["address"] == "192.0.2.7"
    assert gateway("sessions", "end", sid)[0] == GOOD
    assert changes(folder) == [("session", sid, "token_revoked")]
    assert gateway("sessions", "end", "never-was")[0] == NO


def new_personal_key(folder: Path) -> NewPersonalKey:
    async def work(database: Database) -> NewPersonalKey:
        account = await Accounts(database).by_email(EMAIL)
        assert account is not None
        owner = Principal(account.id, (), sid, "t", None, kid="k", issued_at=0, expires_at=1)
        made = await PersonalKeys(database).create(owner, "lap\x9btop", KeyLimits(), 3_600)
        assert isinstance(made, NewPersonalKey)
        return made

    sid = sign_in(folder)
    return inside(folder, work)


def personal_key(folder: Path) -> str:
    """Its id."""
    return new_personal_key(folder).key.id


def test_a_personal_key_is_listed_and_ended(gateway: Gateway, folder: Path) -> None:
    made(gateway)
    first, second = personal_key(folder), personal_key(folder)
    listed = json.loads(gateway("users", "keys", EMAIL, "--json")[1])
    assert {one["key_id"] for one in listed} == {first, second}
    assert "hash" not in listed[0]
    code, shown = gateway("users", "keys", EMAIL, "list")
    assert code == GOOD
    assert first in shown
    assert "\x9b" not in shown
    everything = json.loads(gateway("sessions", "list", EMAIL, "--json")[1])
    assert sorted(one["kind"] for one in everything) == ["key", "key", "session", "session"]
    assert gateway("users", "keys", EMAIL, "end", first)[0] == GOOD
    assert changes(folder) == [("token", first, "token_revoked")]
    assert gateway("sessions", "end", second)[0] == GOOD
    assert json.loads(gateway("users", "keys", EMAIL, "--json")[1]) == []


def test_a_key_is_ended_of_its_own_account_alone(gateway: Gateway, folder: Path) -> None:
    made(gateway)
    key_id = personal_key(folder)
    gateway("users", "create", "bob@example.com")
    assert gateway("users", "keys", "bob@example.com", "end", key_id)[0] == NO
    assert gateway("users", "keys", EMAIL, "end")[0] == USAGE
    assert gateway("users", "keys", EMAIL, "list", key_id)[0] == USAGE
    assert gateway("revoke", "token", key_id)[0] == GOOD
    assert changes(folder) == [("token", key_id, "token_revoked")]
    assert json.loads(gateway("users", "keys", EMAIL, "--json")[1]) == []


def test_a_personal_key_that_leaked_is_ended_by_its_text(gateway: Gateway, folder: Path) -> None:
    made(gateway)
    key = new_personal_key(folder)
    assert gateway("revoke", "token", key.text) == (GOOD, f"revoked: the API key {key.key.id}\n")
    assert changes(folder) == [("token", key.key.id, "token_revoked")]
    assert json.loads(gateway("users", "keys", EMAIL, "--json")[1]) == []


def test_whoever_would_end_the_sessions_of_an_address_is_shown_the_command(
    gateway: Gateway, capsys: pytest.CaptureFixture[str]
) -> None:
    gateway("users", "create", EMAIL)
    capsys.readouterr()
    assert main(["sessions", "end", EMAIL]) == NO
    assert "gateway revoke user EMAIL" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["session", "token", "client"])
def test_what_is_named_is_revoked_also_where_nothing_here_has_it(
    gateway: Gateway, folder: Path, kind: str
) -> None:
    assert gateway("revoke", kind, "x-1", "--unknown")[0] == GOOD
    assert changes(folder) == [(kind, "x-1", "token_revoked")]
    assert gateway("revoke", kind, "a b")[0] == USAGE


def test_revoking_a_user_ends_every_session(gateway: Gateway, folder: Path) -> None:
    fields = made(gateway)
    sign_in(folder)
    assert gateway("revoke", "user", EMAIL)[0] == GOOD
    assert changes(folder) == [("subject", fields["user_id"], "token_revoked")]
    assert json.loads(gateway("sessions", "list", EMAIL, "--json")[1]) == []


def test_an_unknown_key_is_no(gateway: Gateway) -> None:
    assert gateway("revoke", "key", "nothing")[0] == NO


def test_a_store_that_is_away_is_3(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_DATABASE_URL", "postgresql://u:p@127.0.0.1:1/none")
    assert gateway("users", "list")[0] == UNREACHABLE


def test_standard_output_is_data_alone(gateway: Gateway) -> None:
    assert json.loads(gateway("users", "list", "--json")[1]) == []


def test_accounts_of_another_system_are_brought_in_whole_or_not_at_all(
    gateway: Gateway, folder: Path
) -> None:
    people = folder / "people.csv"
    people.write_text("email,roles\nann@x.example,reader\nbob@x.example,\n")
    assert gateway("users", "import", "people.csv", "--dry-run")[0] == GOOD
    assert gateway("users", "list")[1] == ""
    assert gateway("users", "import", "people.csv") == (GOOD, "2 accounts brought in\n")
    people.write_text("email,roles\ncid@x.example,\nann@x.example,\nnobody,\n")
    code, out = gateway("users", "import", "people.csv")
    assert code == NO
    assert out == "people.csv:4: email is not an address that mail can reach\n"
    people.write_text("email,roles\ncid@x.example,\nann@x.example,\n")
    code, out = gateway("users", "import", "people.csv", "--json")
    assert code == NO
    assert json.loads(out) == {
        "accounts": 0,
        "problems": [{"line": 3, "problem": "the address has an account"}],
    }
    assert gateway("users", "show", "cid@x.example")[0] == NO
    assert gateway("users", "import", "none.csv")[0] == USAGE


def test_export_prints_what_is_held_of_one_person(gateway: Gateway) -> None:
    gateway("users", "create", EMAIL, "--role", "editor")
    code, out = gateway("users", "export", EMAIL)
    held = json.loads(out)
    assert code == GOOD
    assert held["account"]["email"] == EMAIL
    assert [row["role"] for row in held["roles"]] == ["editor"]
    assert held["sessions"] == []
    assert gateway("users", "export", "nobody@example.com")[0] == NO
