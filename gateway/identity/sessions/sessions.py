"""Sessions: one for each sign-in; its id is the `sid` of every token that comes of it.

The SQL table is named `families`, of refresh tokens.

Law: a session ends in the transaction that writes the change which tells the workers.  What is
returned must then be announced; until `RevocationPublisher.publish` says True, no promise is made.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from gateway.identity.mail.links import Purpose, revoke_links
from gateway.identity.revocations import CONFIRMED, change_of, record, refuse_once
from gateway.identity.sessions.key_rows import end_keys, newest_key_at
from gateway.model import Change, ChangeKind, Principal, Reason
from gateway.stores.protocols import Database, Row, StoreUnavailable, Transaction

Transport = Literal["bearer", "cookie"]
StillProven = Callable[[Transaction], Awaitable[bool]]
"""Whether what an account was proven by still counts; its row is held by the transaction."""
SESSION_ID = re.compile(r"[A-Za-z0-9._:@-]{1,128}")

COARSE_S = 900
"""When a session was last used is told to its owner to the quarter of an hour."""

SIGN_OUT = "logout"
"""Why sessions end that their owner signs out of."""


@dataclass(frozen=True, slots=True)
class Session:
    """One sign-in, as its owner may see it; `address` is an IP address.

    `last_used_at` is the `iat` of its newest token.
    """

    id: str
    account_id: str
    user_agent: str
    address: str
    created_at: int
    last_used_at: int
    expires_at: int
    ended_at: int | None

    @property
    def seen_at(self) -> int:
        """`last_used_at` as the owner is told it: whoever has one of their tokens must not
        learn the moment of a refresh, and with it when an old token may be repeated."""
        return told_of_use(self.last_used_at, self.created_at)


@dataclass(frozen=True, slots=True)
class SignInSource:
    """Where a sign-in or a refresh comes from; `address` is an IP address."""

    user_agent: str
    address: str

    @property
    def shown_user_agent(self) -> str:
        """What is kept of it: printable, and no more than 256 characters."""
        return "".join(c if c.isprintable() else " " for c in self.user_agent[:256]).strip()


class Sessions:
    """Lists and ends sessions, for owners and operators."""

    def __init__(self, database: Database, *, idle_s: int = 0) -> None:
        self._database = database
        self._idle_s = idle_s

    async def find_active(self, account_id: str) -> list[Session]:
        """The account's sessions that can still be refreshed, newest first."""
        async with self._database.read_transaction() as tx:
            now = int(await tx.now())
            rows = await tx.all(
                f"{_SELECT} WHERE account_id = :account AND ended_at IS NULL"
                " AND expires_at > :now ORDER BY created_at DESC, id",
                account=account_id,
                now=now,
            )
        sessions = [_session(row) for row in rows]
        return [f for f in sessions if not self._idle_s or f.last_used_at + self._idle_s > now]

    async def get(self, session_id: str) -> Session | None:
        async with self._database.read_transaction() as tx:
            return await find(tx, session_id)

    async def end(
        self, session_id: str, why: str, *, owner: str | None = None
    ) -> Sequence[Change] | None:
        """End one session, as a thief's, with a change of the e-mail address that it may have asked
        for; None when there is none of that id (or it is not `owner`'s).  May be repeated: one that
        has ended gives the change that ended it."""
        async with self._database.transaction() as tx:
            session = await find(tx, session_id)
            if session is None or (owner is not None and session.account_id != owner):
                return None
            await lock(tx, session.account_id)
            return await end_with_links(tx, session, why)

    async def sign_out(self, principal: Principal, *, everywhere: bool) -> Sequence[Change]:
        """Ends the session of a verified access token, be the token expired or revoked.

        The account and the session may be unknown here (a token of an imported key): then its
        `sid`, or without one its `jti`, is refused all the same.
        """
        async with self._database.transaction() as tx:
            sid = principal.session_id
            session = await find(tx, sid) if sid is not None else None
            if sid is None or (session is not None and session.account_id != principal.subject):
                return await refuse_once(tx, ChangeKind.TOKEN, principal.token_id)
            if everywhere:
                if session is not None:
                    return await self._end_all_of(
                        tx, session, principal.issued_at, good_until=principal.expires_at
                    )
                recorded = await _recorded_changes(tx, sid, principal.subject, principal.issued_at)
                if not recorded and principal.expires_at > await tx.now():
                    return await end_every(tx, principal.subject, SIGN_OUT)
                return recorded or await end_one(tx, sid, SIGN_OUT)
            changes = await end_one(tx, sid, SIGN_OUT)
        await self._settle(session)
        return changes

    async def sign_out_session(self, session: Session, *, everywhere: bool) -> Sequence[Change]:
        """The same for whoever has a refresh token of the session, used or not."""
        async with self._database.transaction() as tx:
            if everywhere:
                return await self._end_all_of(tx, session, session.created_at)
            changes = await end_one(tx, session.id, SIGN_OUT)
        await self._settle(session)
        return changes

    async def _end_all_of(
        self, tx: Transaction, session: Session, since: int, good_until: int = 0
    ) -> Sequence[Change]:
        """Ends every session of the account, for who holds one of them, or did.

        With one that is over, by whatever, nothing ends that began after it was: an old token,
        found in some log, must not be a switch that signs its owner out for ever.  What was there
        before its end does: whoever ended it may be the thief, and its owner is told that all is
        over.  A change of the address is stopped either way: it can be asked for again.
        `good_until`: of an access token, which may outlive the use of its session.
        """
        over_since = self._over_since(session, int(await tx.now()), good_until)
        if over_since is None:
            return await end_every(tx, session.account_id, SIGN_OUT)
        await lock(tx, session.account_id)
        # Whichever session asked for one: it may have ended since, and left it to its mailbox.
        await revoke_links(tx, session.account_id, Purpose.EMAIL_CHANGE)
        older = "account_id = :account AND created_at < :before AND id <> :id"
        values = {"account": session.account_id, "before": over_since, "id": session.id}
        for row in await tx.all(
            f"SELECT id FROM families WHERE {older} AND ended_at IS NULL",  # noqa: S608
            **values,
        ):
            await end_one(tx, str(row["id"]), SIGN_OUT)
        # Those of a first call that could not be confirmed stand there too, and are told again.
        pending = await tx.all(
            "SELECT * FROM changes WHERE kind = 'session' AND published < :confirmed"  # noqa: S608
            f" AND target IN (SELECT id FROM families WHERE {older})",
            confirmed=CONFIRMED,
            **values,
        )
        recorded = await _recorded_changes(tx, session.id, session.account_id, since)
        first = recorded or await end_one(tx, session.id, SIGN_OUT)
        return [*first, *map(change_of, pending)]

    def _over_since(self, session: Session, now: int, good_until: int) -> int | None:
        """Since when the session is over: by its time, for want of use, or by a sign-out, whichever
        came first; None while it is not."""
        over_at = max(session.expires_at, good_until)
        if self._idle_s:
            over_at = min(over_at, max(session.last_used_at + self._idle_s, good_until))
        if session.ended_at is not None:
            return min(session.ended_at, over_at)
        return over_at if over_at <= now else None

    async def _settle(self, session: Session | None) -> None:
        """Waits for who holds the account, for as long as a store is waited for: what the session
        asked for is written, or finds it ended.  It has ended either way."""
        if session is not None and session.ended_at is None:
            with suppress(StoreUnavailable):
                async with self._database.transaction() as tx:
                    await lock(tx, session.account_id)


def told_of_use(last_used_at: int, created_at: int) -> int:
    """As `Session.seen_at`, of a session of these times."""
    return max(last_used_at - last_used_at % COARSE_S, created_at)


_SELECT = (
    "SELECT id, account_id, user_agent, address, created_at, last_used_at, expires_at, ended_at"
    " FROM families"
)


async def find(tx: Transaction, session_id: str) -> Session | None:
    row = await tx.one(f"{_SELECT} WHERE id = :id", id=session_id)
    return _session(row) if row else None


async def is_live(tx: Transaction, session_id: str, account_id: str) -> bool:
    """Whether the session is the account's and nothing has ended it while it asked."""
    session = await find(tx, session_id)
    return session is not None and session.account_id == account_id and session.ended_at is None


async def begin(
    tx: Transaction,
    account_id: str,
    source: SignInSource,
    *,
    amr: str,
    at: int,
    expires_at: int,
    transport: Transport = "bearer",
) -> str:
    """Write a new session and return its id: 128 random bits."""
    session_id = secrets.token_hex(16)
    await tx.run(
        "INSERT INTO families (id, account_id, transport, user_agent, address, amr, auth_time,"
        " created_at, last_used_at, expires_at) VALUES (:id, :account, :transport, :agent,"
        " :address, :amr, :at, :at, :at, :expires)",
        id=session_id,
        account=account_id,
        transport=transport,
        agent=source.shown_user_agent,
        address=source.address,
        amr=amr,
        at=at,
        expires=expires_at,
    )
    return session_id


async def end_one(tx: Transaction, session_id: str, why: str) -> Sequence[Change]:
    """End the session, unless it has ended, and give the change that refuses its tokens."""
    ended = await tx.run(
        "UPDATE families SET ended_at = :now, end_reason = :why"
        " WHERE id = :id AND ended_at IS NULL",
        id=session_id,
        why=why,
        now=int(await tx.now()),
    )
    if ended:
        return [await record(tx, ChangeKind.SESSION, session_id, Reason.TOKEN_REVOKED)]
    return await refuse_once(tx, ChangeKind.SESSION, session_id)


async def end_with_links(tx: Transaction, session: Session, why: str) -> Sequence[Change]:
    """As `Sessions.end`; the account's row is held by the transaction."""
    await revoke_links(tx, session.account_id, Purpose.EMAIL_CHANGE)
    return await end_one(tx, session.id, why)


async def end_others(
    tx: Transaction, account_id: str, except_id: str, why: str
) -> Sequence[Change]:
    """End every session of the account but `except_id`, and a change of the e-mail address."""
    await revoke_links(tx, account_id, Purpose.EMAIL_CHANGE)
    rows = await tx.all(
        "UPDATE families SET ended_at = :now, end_reason = :why"
        " WHERE account_id = :account AND id <> :except_id AND ended_at IS NULL RETURNING id",
        account=account_id,
        except_id=except_id,
        why=why,
        now=int(await tx.now()),
    )
    return [await record(tx, ChangeKind.SESSION, row["id"], Reason.TOKEN_REVOKED) for row in rows]


async def end_every(tx: Transaction, account_id: str, why: str) -> Sequence[Change]:
    """End every session of the account and refuse every token it has been given.

    A change of the e-mail address that one of them requested ends with them; so do the personal
    keys, but where their owner signs out.
    """
    change = await outdate(tx, account_id, Reason.TOKEN_REVOKED)
    await revoke_links(tx, account_id, Purpose.EMAIL_CHANGE)
    if why != SIGN_OUT:
        await end_keys(tx, account_id)
    await tx.run(
        "UPDATE families SET ended_at = :now, end_reason = :why"
        " WHERE account_id = :account AND ended_at IS NULL",
        account=account_id,
        why=why,
        now=int(await tx.now()),
    )
    return [change]


async def outdate(tx: Transaction, account_id: str, cause: Reason) -> Change:
    """Refuses every access token that the account has been given so far.

    A token that followed a change in the same second carries an `iat` one ahead of the
    clock, and the clock itself may have been set back since: the not-before is the newest
    `iat` that was given, where that is later than now.
    """
    account = await lock(tx, account_id)
    row = await tx.one(
        "SELECT MAX(last_used_at) AS newest FROM families WHERE account_id = :id", id=account_id
    )
    newest = int(row["newest"]) if row and row["newest"] is not None else 0
    not_before = max(int(await tx.now()), newest)
    newest_key = await newest_key_at(tx, account_id)
    if newest_key is not None and account is not None:
        # What was read of a key is as old as the change before this one: each has its own time.
        not_before = max(not_before, newest_key, int(account["not_before"]) + 1)
    await tx.run(
        "UPDATE accounts SET not_before = :not_before, updated_at = :now"
        " WHERE id = :id AND not_before < :not_before",
        id=account_id,
        not_before=not_before,
        now=int(await tx.now()),
    )
    return await record(tx, ChangeKind.SUBJECT, account_id, cause, not_before=not_before)


async def lock(tx: Transaction, account_id: str) -> Row | None:
    """The account's row, held until the transaction ends: whoever changes what its tokens say,
    and whoever mints one, takes turns."""
    return await tx.one(
        "UPDATE accounts SET id = id WHERE id = :id RETURNING id, email, email_key,"
        " email_verified, password_hash, password_epoch, disabled, not_before, created_at",
        id=account_id,
    )


async def _recorded_changes(
    tx: Transaction, session_id: str, account_id: str, since: int
) -> Sequence[Change]:
    """The changes that ended a session which is over, for announcing them again."""
    rows = await tx.all(
        "SELECT * FROM changes WHERE (kind = 'session' AND target = :sid)"
        " OR (kind = 'subject' AND target = :account AND not_before >= :since)",
        sid=session_id,
        account=account_id,
        since=since,
    )
    return [change_of(row) for row in rows]


def _session(row: Row) -> Session:
    ended = row["ended_at"]
    return Session(
        id=str(row["id"]),
        account_id=str(row["account_id"]),
        user_agent=str(row["user_agent"]),
        address=str(row["address"]),
        created_at=int(row["created_at"]),
        last_used_at=int(row["last_used_at"]),
        expires_at=int(row["expires_at"]),
        ended_at=None if ended is None else int(ended),
    )
