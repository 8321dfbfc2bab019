"""Accounts as an operator looks for them: by the beginning of the address, a role, a state.

Law: a page costs the same wherever it is in the list, and however many accounts there are: what
is looked for is found by an index, or is so common that the next rows hold it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from gateway.email_address import normalize_email
from gateway.identity.accounts.account_rows import SELECT, Account, account_of_row
from gateway.stores.protocols import Database, Row, Transaction

ACCOUNT_ID = re.compile(r"[A-Za-z0-9._:@-]{1,128}")
_FEW_HOLDERS = 2_000
"""So many accounts with a role are put in order when they are asked for; of more, the accounts
are walked through in their order, and soon one has it."""
_LAST = "\U0010ffff"
_HOLDERS = (
    "SELECT account_id FROM account_roles WHERE role = :role UNION ALL SELECT i.account_id"
    " FROM linked_roles l JOIN linked_identities i ON i.id = l.identity_id WHERE l.role = :role"
)
# Asked of each account in turn: as `EXISTS`, PostgreSQL would first read who all have the role.
_HAS_ROLE = (
    "COALESCE((SELECT 1 FROM account_roles r WHERE r.account_id = accounts.id AND r.role = :role),"
    " (SELECT 1 FROM linked_roles l JOIN linked_identities i ON i.id = l.identity_id"
    " WHERE i.account_id = accounts.id AND l.role = :role LIMIT 1)) = 1"
)


@dataclass(frozen=True, slots=True)
class AccountFilter:
    text: str = ""
    """An id, or the beginning of an e-mail address, as it was typed."""
    role: str = ""
    disabled: bool | None = None


class AccountSearch:
    def __init__(self, database: Database) -> None:
        self._database = database
        # The order of bytes, which the beginning of an address is a range of.
        self._key = "email_key" if database.dialect == "sqlite" else 'email_key COLLATE "C"'

    async def page(self, wanted: AccountFilter, after: str, limit: int) -> list[Account]:
        """By the normalized address, after `after`."""
        async with self._database.read_transaction() as tx:
            rows = await self._rows(tx, wanted, after, limit)
            roles = await _roles(tx, [str(row["id"]) for row in rows])
        return [account_of_row(row, roles.get(str(row["id"]), [])) for row in rows]

    async def _rows(
        self, tx: Transaction, wanted: AccountFilter, after: str, limit: int
    ) -> Sequence[Row]:
        values: dict[str, object] = {"limit": limit}
        conditions = []
        if after:
            conditions.append(f"{self._key} > :after")
            values["after"] = after
        if wanted.text:
            if not wanted.text.isprintable():
                return []
            values |= {"id": wanted.text, "first": _beginning(wanted.text)}
            by_id = await tx.one("SELECT email_key FROM accounts WHERE id = :id", id=wanted.text)
            if by_id is not None:
                conditions.append("id = :id")
            else:
                conditions.append(f"{self._key} >= :first AND {self._key} < :last")
                values["last"] = _beginning(wanted.text) + _LAST
        if wanted.role:
            if not wanted.role.isprintable():
                return []
            values["role"] = wanted.role
            conditions.append(await _with_role(tx, wanted.role))
        if wanted.disabled is not None:
            conditions.append(f"disabled = {int(wanted.disabled)}")
        where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
        return await tx.all(f"{SELECT}{where} ORDER BY {self._key} LIMIT :limit", **values)


async def _with_role(tx: Transaction, role: str) -> str:
    some = await tx.all(f"{_HOLDERS} LIMIT :most", role=role, most=_FEW_HOLDERS + 1)
    return f"id IN ({_HOLDERS})" if len(some) <= _FEW_HOLDERS else _HAS_ROLE


async def _roles(tx: Transaction, account_ids: Sequence[str]) -> dict[str, list[str]]:
    """In their order, each once."""
    named = {f"id{n}": account_id for n, account_id in enumerate(account_ids)}
    if not named:
        return {}
    listed = ", ".join(f":{name}" for name in named)
    rows = await tx.all(
        f"SELECT account_id, role FROM account_roles WHERE account_id IN ({listed})"  # noqa: S608
        " UNION SELECT i.account_id, l.role FROM linked_identities i JOIN linked_roles l"
        f" ON l.identity_id = i.id WHERE i.account_id IN ({listed}) ORDER BY 1, 2",
        **named,
    )
    roles: dict[str, list[str]] = {}
    for row in rows:
        roles.setdefault(str(row["account_id"]), []).append(str(row["role"]))
    return roles


def _beginning(text: str) -> str:
    """Of the normalized addresses that are meant."""
    return normalize_email(text) or unicodedata.normalize("NFKC", text).casefold()
