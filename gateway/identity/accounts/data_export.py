"""The data that is stored about one person, for that person to take away."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from gateway.identity.sessions.sessions import told_of_use
from gateway.stores.protocols import Row, Transaction

_BOOLEANS = ("email_verified", "disabled")
_SESSIONS_MAX = 1_000
"""The newest: those that have ended are kept for a day, however many they are."""


async def export_data(tx: Transaction, account_id: str) -> dict[str, Any] | None:
    """The account, its roles, attributes and tenants, and every session, personal key and passkey
    that is still kept; None where there is none.

    Times are seconds since the epoch.  No hash and no secret is part of it.
    """
    account = await tx.one(
        "SELECT id AS user_id, email, email_verified, disabled, created_at, updated_at"
        " FROM accounts WHERE id = :id",
        id=account_id,
    )
    if account is None:
        return None
    roles = await tx.all(
        "SELECT role, granted_at FROM account_roles WHERE account_id = :id ORDER BY role",
        id=account_id,
    )
    attributes = await tx.all(
        "SELECT name, value, set_by, set_at FROM account_attributes WHERE account_id = :id"
        " ORDER BY name",
        id=account_id,
    )
    tenants = await tx.all(
        "SELECT tenant, role, granted_at FROM account_tenants WHERE account_id = :id"
        " ORDER BY tenant",
        id=account_id,
    )
    sessions = await tx.all(
        "SELECT id AS session_id, transport, tenant, user_agent, address, auth_time, created_at,"
        " last_used_at, expires_at, ended_at, end_reason"
        " FROM families WHERE account_id = :id ORDER BY created_at DESC, id DESC LIMIT :most",
        id=account_id,
        most=_SESSIONS_MAX,
    )
    keys = await tx.all(
        "SELECT id AS key_id, name, roles, scopes, routes, created_at, expires_at, ended_at,"
        " last_used_at FROM personal_keys WHERE account_id = :id ORDER BY created_at, id",
        id=account_id,
    )
    passkeys = await tx.all(
        "SELECT id AS passkey_id, name, discoverable, backup_eligible, backed_up, transports,"
        " aaguid, created_at, last_used_at FROM passkeys WHERE account_id = :id"
        " ORDER BY created_at, id",
        id=account_id,
    )
    identities = await tx.all(
        "SELECT id, provider, issuer, subject, email, linked_at, last_used_at"
        " FROM linked_identities WHERE account_id = :id ORDER BY linked_at, id",
        id=account_id,
    )
    given = await tx.all(
        "SELECT identity_id, role FROM linked_roles WHERE identity_id IN"
        " (SELECT id FROM linked_identities WHERE account_id = :id) ORDER BY role",
        id=account_id,
    )
    totp = await tx.all(
        "SELECT confirmed_at AS created_at FROM totp_factors"
        " WHERE account_id = :id AND confirmed_at IS NOT NULL",
        id=account_id,
    )
    codes = await tx.one(
        "SELECT COUNT(*) AS left_over FROM recovery_codes WHERE account_id = :id", id=account_id
    )
    told = await tx.one(
        "SELECT told_at FROM known_password_notices WHERE account_id = :id", id=account_id
    )
    return {
        "account": dict(account) | {name: bool(account[name]) for name in _BOOLEANS},
        "roles": [dict(row) for row in roles],
        "attributes": [{**row, "value": json.loads(row["value"])} for row in attributes],
        "tenants": [dict(row) for row in tenants],
        "sessions": [_session(row) for row in reversed(sessions)],
        "personal_keys": [_key(row) for row in keys],
        "passkeys": [_passkey(row) for row in passkeys],
        "linked_identities": [_identity(row, given) for row in identities],
        "totp": [dict(row) for row in totp],
        "recovery_codes_left": int(codes["left_over"]) if codes else 0,
        "known_password_told_at": None if told is None else told["told_at"],
    }


def _identity(row: Row, given: Sequence[Row]) -> dict[str, Any]:
    roles = [one["role"] for one in given if one["identity_id"] == row["id"]]
    return {**{name: row[name] for name in row if name != "id"}, "roles": roles}


def _session(row: Row) -> dict[str, Any]:
    told = told_of_use(int(row["last_used_at"]), int(row["created_at"]))
    return {**row, "last_used_at": told}


def _key(row: Row) -> dict[str, Any]:
    lists = {name: row[name] and json.loads(row[name]) for name in ("roles", "scopes", "routes")}
    return {**row, **lists}


def _passkey(row: Row) -> dict[str, Any]:
    """As `factors.passkeys.described_passkey` tells it."""
    said = row["discoverable"]
    return {
        **row,
        "discoverable": None if said is None else bool(said),
        "backup_eligible": bool(row["backup_eligible"]),
        "backed_up": bool(row["backed_up"]),
        "transports": str(row["transports"]).split(),
    }
