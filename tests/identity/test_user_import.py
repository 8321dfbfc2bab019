from __future__ import annotations

import json
from collections.abc import AsyncIterator

import bcrypt
import pytest

from gateway.identity.accounts.accounts import Accounts
from gateway.identity.accounts.passwords import Checked, PasswordOptions, Passwords, import_hash
from gateway.identity.accounts.user_import import BadLine, BadLines, import_users, read_users
from gateway.stores.protocols import Database

HASH = bcrypt.hashpw(b"their old password 1", bcrypt.gensalt(4)).decode()
CSV = f"""email,password_hash,verified,roles
Ann@x.example,{HASH},true,reader writer
bob@x.example,,,
"""


@pytest.fixture
async def passwords() -> AsyncIterator[Passwords]:
    opened = Passwords(PasswordOptions(), 10)
    yield opened
    opened.close()


async def test_people_of_another_system_sign_in_with_their_old_passwords(
    database: Database, passwords: Passwords
) -> None:
    people = read_users(CSV.encode(), json_lines=False)
    assert not isinstance(people, BadLines)
    assert await import_users(database, people) == []
    ann = await Accounts(database).by_email("ann@x.example")
    assert ann is not None
    assert (ann.email, ann.email_verified, ann.roles) == (
        "Ann@x.example",
        True,
        ("reader", "writer"),
    )
    assert await passwords.check("their old password 1", ann.password_hash) == Checked(True)
    assert await passwords.check("another", ann.password_hash) == Checked(False)
    assert ann.password_hash is not None
    assert passwords.may_renew(ann.password_hash, "x")  # so the first sign-in renews it
    bob = await Accounts(database).by_email("bob@x.example")
    assert bob is not None
    assert (bob.password_hash, bob.email_verified, bob.roles) == (None, False, ())
    assert await passwords.check("", bob.password_hash) == Checked(False)


async def test_json_lines_say_the_same() -> None:
    lines = [
        {
            "email": "Ann@x.example",
            "password_hash": HASH,
            "verified": True,
            "roles": ["reader", "writer"],
        },
        {"email": "bob@x.example"},
    ]
    text = "\n".join(json.dumps(line) for line in lines)
    result = read_users(text.encode(), json_lines=True)
    expected = read_users(CSV.encode(), json_lines=False)
    assert isinstance(result, list)
    assert isinstance(expected, list)
    assert [(p.email, p.verified, p.roles, p.password_hash) for p in result] == [
        (p.email, p.verified, p.roles, p.password_hash) for p in expected
    ]


async def test_every_bad_line_is_told_and_nothing_is_brought_in(database: Database) -> None:
    text = f"""email,password_hash,verified,roles
good@x.example,{HASH},true,
nobody,,,
a@x.example,plain text,,
b@x.example,{HASH.replace("$04$", "$15$")},,
c@x.example,,maybe,
d@x.example,,,"a,b"
e@x.example,,
GOOD@x.example,,,
"""
    result = read_users(text.encode(), json_lines=False)
    assert isinstance(result, BadLines)
    assert [bad.line for bad in result.problems] == [3, 4, 5, 6, 7, 8, 9]
    assert result.problems[-1] == BadLine(9, "the address stands in line 2 already")
    assert "plain text" not in str(result.problems)


async def test_an_address_that_has_an_account_is_told_and_nothing_is_brought_in(
    database: Database,
) -> None:
    await Accounts(database).register("bob@x.example", "hash")
    people = read_users(CSV.encode(), json_lines=False)
    assert not isinstance(people, BadLines)
    assert await import_users(database, people) == [BadLine(3, "the address has an account")]
    assert await Accounts(database).by_email("ann@x.example") is None


async def test_a_dry_run_changes_nothing(database: Database) -> None:
    people = read_users(CSV.encode(), json_lines=False)
    assert not isinstance(people, BadLines)
    assert await import_users(database, people, dry_run=True) == []
    assert await Accounts(database).by_email("ann@x.example") is None


async def test_a_thousand_people_are_brought_in_at_once(database: Database) -> None:
    text = "\n".join(json.dumps({"email": f"n{n}@x.example", "roles": ["r"]}) for n in range(1000))
    people = read_users(text.encode(), json_lines=True)
    assert not isinstance(people, BadLines)
    assert await import_users(database, people) == []
    assert await Accounts(database).role_counts() == [("r", 1000)]


@pytest.mark.parametrize(
    ("raw", "json_lines", "line"),
    [
        (b"", False, 1),
        (b"mail\nann@x.example\n", False, 1),
        (b"email,email\na@x.example,b@x.example\n", False, 1),
        (b"email\n\xff\n", False, 2),
        (b'email\n"ann@x.example\n', False, 2),
        (b'{"email": "ann@x.example"}\n[]\n', True, 2),
        (b"{" * 100_000, True, 1),
        (b'{"email": 1}', True, 1),
        (b'{"email": "ann@x.example", "roles": {}}', True, 1),
        (b'{"email": "ann@x.example", "roles": [1]}', True, 1),
        (b'{"email": "ann@x.example", "verified": 1}', True, 1),
        (b'{"email": "ann@x.example", "password_hash": 1}', True, 1),
        (b'{"email": "ann@x.example", "admin": true}', True, 1),
    ],
)
def test_what_is_no_file_of_people_is_told_with_its_line(
    raw: bytes, json_lines: bool, line: int
) -> None:
    result = read_users(raw, json_lines=json_lines)
    assert isinstance(result, BadLines)
    assert [bad.line for bad in result.problems][-1] == line


def test_a_line_that_a_spreadsheet_wrote_is_read() -> None:
    raw = "\ufeffemail,roles\r\nann@x.example,a b\r\n\r\n".encode()
    result = read_users(raw, json_lines=False)
    assert isinstance(result, list)
    assert [person.roles for person in result] == [("a", "b")]


def test_a_password_of_over_72_bytes_is_checked_as_the_other_system_did() -> None:
    assert import_hash(HASH) == "bc" + HASH
    assert import_hash(HASH.replace("$2b$", "$2y$")) is not None
    for wrong in ("", "x", HASH[:-1], HASH + "\n", HASH.replace("$04$", "$31$"), "$1$abc$def"):
        assert import_hash(wrong) is None


def test_a_line_that_is_not_utf_8_does_not_hide_the_others() -> None:
    result = read_users(b'[]\n{"email":"\xff@example.com"}\n{bad\n', json_lines=True)
    assert isinstance(result, BadLines)
    assert [(bad.line, bad.problem) for bad in result.problems] == [
        (1, "is not a JSON object, or has a member twice"),
        (2, "is not UTF-8"),
        (3, "is not a JSON object, or has a member twice"),
    ]


def test_a_member_that_stands_twice_is_not_taken_for_its_last_value() -> None:
    line = b'{"email":"a@example.com","verified":false,"verified":true}\n'
    result = read_users(line, json_lines=True)
    assert isinstance(result, BadLines)
    assert [bad.line for bad in result.problems] == [1]
