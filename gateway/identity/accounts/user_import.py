"""Imports accounts of another system with their bcrypt hashes.

Law: every bad line is reported with its number, and with one bad line nothing is imported.  The
hash is checked as the other system made it until the first sign-in, which renews it.
"""

from __future__ import annotations

import csv
import io
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from gateway import strict_json
from gateway.email_address import display_email, normalize_email
from gateway.identity.accounts.passwords import import_hash
from gateway.identity.accounts.role_names import check_roles
from gateway.identity.password_epochs import first_epoch
from gateway.stores.protocols import Conflict, Database, Transaction

_FIELDS = ("email", "password_hash", "verified", "roles")
_TRUTH = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False, "": False}
_PAGE = 400


@dataclass(frozen=True, slots=True)
class BadLine:
    """`line` counts from 1, as editors do."""

    line: int
    problem: str


@dataclass(frozen=True, slots=True)
class BadLines:
    problems: Sequence[BadLine]


@dataclass(frozen=True, slots=True)
class ImportedUser:
    line: int
    email: str
    normalized_email: str
    verified: bool
    roles: tuple[str, ...]
    password_hash: str | None = field(repr=False)
    """As it is stored here."""


def read_users(raw: bytes, *, json_lines: bool) -> list[ImportedUser] | BadLines:
    """Every user of the file, or every bad line of it."""
    broken = _not_utf8(raw)
    text = raw.decode("utf-8-sig", "replace")
    users: list[ImportedUser] = []
    problems = [BadLine(line, "is not UTF-8") for line in sorted(broken)]
    first_lines: dict[str, int] = {}
    for line, fields in _json_rows(text) if json_lines else _csv_rows(text):
        if line in broken:
            continue
        user = fields if isinstance(fields, str) else _read_user(line, fields)
        if isinstance(user, str):
            problems.append(BadLine(line, user))
        elif (first := first_lines.setdefault(user.normalized_email, line)) != line:
            problems.append(BadLine(line, f"the address stands in line {first} already"))
        else:
            users.append(user)
    return BadLines(sorted(problems, key=lambda bad: bad.line)) if problems else users


def _not_utf8(raw: bytes) -> set[int]:
    """The numbers of the lines that are not UTF-8."""
    numbers: set[int] = set()
    for line, part in enumerate(raw.split(b"\n"), 1):
        try:
            part.decode("utf-8")
        except UnicodeDecodeError:
            numbers.add(line)
    return numbers


async def import_users(
    database: Database, users: Sequence[ImportedUser], *, dry_run: bool = False
) -> Sequence[BadLine]:
    """The lines whose address has an account; without any, everybody is brought in, in one
    transaction."""
    try:
        async with database.transaction() as tx:
            now = int(await tx.now())
            problems = [bad for page in _pages(users) for bad in await _taken(tx, page)]
            if problems or dry_run:
                return problems
            for page in _pages(users):
                await _add(tx, page, now)
    except Conflict:
        return [BadLine(0, "an address was registered at this moment: try again")]
    return []


def _csv_rows(text: str) -> Iterator[tuple[int, dict[str, Any] | str]]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        if (
            "email" not in header
            or not set(header) <= set(_FIELDS)
            or len(set(header)) < len(header)
        ):
            yield 1, "the first line must name the columns: email, " + ", ".join(_FIELDS[1:])
            return
        line = reader.line_num + 1
        for row in reader:
            if row and len(row) != len(header):
                yield line, f"holds {len(row)} fields where the first line names {len(header)}"
            elif row:
                yield line, dict(zip(header, row, strict=True))
            line = reader.line_num + 1
    except csv.Error:
        yield reader.line_num, "is not well-formed CSV"


def _json_rows(text: str) -> Iterator[tuple[int, dict[str, Any] | str]]:
    for line, raw in enumerate(text.split("\n"), 1):
        if not raw.strip():
            continue
        try:
            fields = strict_json.loads(raw.encode())
        except ValueError:
            fields = None
        told = "is not a JSON object, or has a member twice"
        yield line, fields if isinstance(fields, dict) else told


def _read_user(line: int, fields: dict[str, Any]) -> ImportedUser | str:
    """The user, or what is wrong with the line."""
    if unknown := fields.keys() - set(_FIELDS):
        return f"holds a field besides {', '.join(_FIELDS)}: {min(unknown)[:40]!r}"
    typed = fields.get("email")
    email = display_email(typed) if isinstance(typed, str) else None
    key = normalize_email(email) if email is not None else None
    if email is None or key is None:
        return "email is not an address that mail can reach"
    bcrypt_hash = fields.get("password_hash")
    password_hash = import_hash(bcrypt_hash) if isinstance(bcrypt_hash, str) else None
    if bcrypt_hash not in (None, "") and password_hash is None:
        return "password_hash is not a bcrypt hash of a cost from 4 to 14"
    verified = fields.get("verified", False)
    if isinstance(verified, str):
        verified = _TRUTH.get(verified.strip().lower())
    if not isinstance(verified, bool):
        return "verified is neither true nor false"
    roles = fields.get("roles")
    roles = (roles or "").split() if isinstance(roles, str | None) else roles
    if not isinstance(roles, list) or not all(isinstance(role, str) for role in roles):
        return "roles is not a list of roles"
    try:
        check_roles(roles)
    except ValueError as error:
        return str(error)
    return ImportedUser(line, email, key, verified, tuple(dict.fromkeys(roles)), password_hash)


async def _taken(tx: Transaction, page: Sequence[ImportedUser]) -> list[BadLine]:
    keys = {f"k{number}": user.normalized_email for number, user in enumerate(page)}
    names = ", ".join(f":{name}" for name in keys)
    rows = await tx.all(
        f"SELECT email_key FROM accounts WHERE email_key IN ({names})",  # noqa: S608
        **keys,
    )
    registered = {row["email_key"] for row in rows}
    return [
        BadLine(user.line, "the address has an account")
        for user in page
        if user.normalized_email in registered
    ]


async def _add(tx: Transaction, page: Sequence[ImportedUser], now: int) -> None:
    ids = [str(uuid.uuid4()) for _ in page]
    await tx.many(
        "INSERT INTO accounts (id, email, email_key, email_verified, password_hash,"
        " password_epoch, created_at, updated_at)"
        " VALUES (:id, :email, :key, :verified, :hash, :epoch, :now, :now)",
        [
            {
                "id": account_id,
                "email": user.email,
                "key": user.normalized_email,
                "verified": int(user.verified),
                "hash": user.password_hash,
                "epoch": first_epoch(now),
                "now": now,
            }
            for account_id, user in zip(ids, page, strict=True)
        ],
    )
    await tx.many(
        "INSERT INTO account_roles (account_id, role, granted_at) VALUES (:id, :role, :now)",
        [
            {"id": account_id, "role": role, "now": now}
            for account_id, user in zip(ids, page, strict=True)
            for role in user.roles
        ],
    )


def _pages(users: Sequence[ImportedUser]) -> Iterator[Sequence[ImportedUser]]:
    for start in range(0, len(users), _PAGE):
        yield users[start : start + _PAGE]
