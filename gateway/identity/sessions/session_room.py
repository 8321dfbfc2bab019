"""How many sessions an account keeps, and cookies a session: those of longest ago make room."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.identity.sessions.sessions import end_one
from gateway.model import Change
from gateway.stores.protocols import Transaction

SESSIONS_MAX = 100
"""Live sessions of one account.  Each is a row, a line of the list that its owner reads, a change
to tell when the password is replaced, and with a cookie a record in Redis."""
_ROOM_AT_ONCE = 10

COOKIES_MAX = 64
"""Cookies of one session, one for each host that it was handed over to, beside the first: each is a
record in Redis for as long as the session lasts, and who brings none is given a new one."""


@dataclass(frozen=True, slots=True)
class Displaced:
    """A session that made room for a newer one; `changes` are to be announced."""

    session_id: str
    cookie_hashes: Sequence[str]
    """Of the cookies that held it: what Redis keeps of it stands under these."""
    changes: Sequence[Change]


async def make_room(tx: Transaction, account_id: str) -> Sequence[Displaced]:
    """Ends the sessions that were used longest ago, so that with one more the account has no
    more than SESSIONS_MAX.  The account's row is held by the transaction."""
    rows = await tx.all(
        "SELECT id, transport FROM families"
        " WHERE account_id = :account AND ended_at IS NULL AND expires_at > :now"
        " ORDER BY last_used_at DESC, created_at DESC, id LIMIT :at_once OFFSET :kept",
        account=account_id,
        now=int(await tx.now()),
        at_once=_ROOM_AT_ONCE,
        kept=SESSIONS_MAX - 1,
    )
    return [
        Displaced(
            str(row["id"]),
            await cookie_hashes(tx, str(row["id"])) if row["transport"] == "cookie" else (),
            await end_one(tx, str(row["id"]), "displaced"),
        )
        for row in rows
    ]


async def cookie_hashes(tx: Transaction, session_id: str) -> Sequence[str]:
    """Of every cookie that stands for a cookie session: one for each host that has it."""
    rows = await tx.all("SELECT hash FROM refresh_tokens WHERE family_id = :id", id=session_id)
    return [str(row["hash"]) for row in rows]


async def make_room_for_cookie(tx: Transaction, session_id: str) -> Sequence[str]:
    """Forgets the oldest cookies that the session was handed over with, so that there is room for
    one; their hashes.  That of the sign-in, and what is as old, stays."""
    rows = await tx.all(
        "SELECT hash FROM refresh_tokens WHERE family_id = :id AND created_at >"
        " (SELECT created_at FROM families WHERE id = :id)"
        " ORDER BY created_at DESC, hash LIMIT :at_once OFFSET :kept",
        id=session_id,
        at_once=COOKIES_MAX,
        kept=COOKIES_MAX - 1,
    )
    hashes = [str(row["hash"]) for row in rows]
    for cookie_hash in hashes:
        await tx.run("DELETE FROM refresh_tokens WHERE hash = :hash", hash=cookie_hash)
    return hashes
