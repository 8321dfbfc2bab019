"""An account as it rests in SQL, read with all that tokens say of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from gateway.identity.sessions.sessions import lock
from gateway.stores.protocols import Row, Transaction


@dataclass(frozen=True, slots=True)
class Account:
    """`email` is as it was typed; `normalized_email` tells accounts apart."""

    id: str
    email: str
    normalized_email: str
    email_verified: bool
    disabled: bool
    not_before: int
    created_at: int
    roles: tuple[str, ...]
    password_hash: str | None = field(repr=False)
    password_epoch: int = 0
    """Raised with each change of the password (`password_epochs.py`); a hash that is made anew
    leaves it.  So what counts by it knows no account that had the address before."""
    attributes: Mapping[str, Any] = field(default_factory=dict)
    """As they were given: what the configuration takes of them may have changed since."""
    set_by: Mapping[str, str] = field(default_factory=dict)
    """Who gave each of them: one of `SetBy`, of a provider with its issuer behind it."""
    tenants: Mapping[str, str] = field(default_factory=dict)
    """Each with the role there."""


SELECT = (
    "SELECT id, email, email_key, email_verified, password_hash, password_epoch, disabled,"
    " not_before, created_at FROM accounts"
)

_FACTS = (
    "SELECT 'role' AS kind, role AS name, '' AS value, '' AS set_by FROM held_roles"
    " WHERE account_id = :id"
    " UNION ALL SELECT 'attribute', name, value, set_by FROM account_attributes"
    " WHERE account_id = :id"
    " UNION ALL SELECT 'tenant', tenant, role, '' FROM account_tenants WHERE account_id = :id"
    " ORDER BY 1, 2"
)


async def _with_facts(tx: Transaction, row: Row | None) -> Account | None:
    """With its roles, attributes and tenants."""
    # Asked also where there is no account: where nothing is hashed, as the queue is full, the
    # clock would tell a stranger by this one question which addresses have one.
    facts = await tx.all(_FACTS, id="" if row is None else row["id"])
    if row is None:
        return None
    by_kind: dict[str, dict[str, str]] = {"role": {}, "attribute": {}, "tenant": {}}
    for fact in facts:
        by_kind[str(fact["kind"])][str(fact["name"])] = str(fact["value"])
    return replace(
        account_of_row(row, list(by_kind["role"])),
        attributes={name: json.loads(value) for name, value in by_kind["attribute"].items()},
        set_by={
            str(fact["name"]): str(fact["set_by"]) for fact in facts if fact["kind"] == "attribute"
        },
        tenants=by_kind["tenant"],
    )


async def find_by_key(tx: Transaction, key: str) -> Account | None:
    return await _with_facts(tx, await tx.one(f"{SELECT} WHERE email_key = :key", key=key))


async def account_by_id(tx: Transaction, account_id: str) -> Account | None:
    return await _with_facts(tx, await tx.one(f"{SELECT} WHERE id = :id", id=account_id))


async def locked(tx: Transaction, account_id: str) -> Account | None:
    """The account with its roles, its row held until the transaction ends."""
    return await _with_facts(tx, await lock(tx, account_id))


def account_of_row(row: Row, roles: Sequence[str]) -> Account:
    stored = row["password_hash"]
    return Account(
        id=str(row["id"]),
        email=str(row["email"]),
        normalized_email=str(row["email_key"]),
        email_verified=bool(row["email_verified"]),
        disabled=bool(row["disabled"]),
        not_before=int(row["not_before"]),
        created_at=int(row["created_at"]),
        roles=tuple(roles),
        password_hash=None if stored is None else str(stored),
        password_epoch=int(row["password_epoch"]),
    )
