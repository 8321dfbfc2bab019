"""Whether who asks for a change is still signed in, asked again where it is written."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.identity.sessions.sessions import end_with_links, find, lock
from gateway.model import Change, ChangeKind, Principal, Reason
from gateway.stores.protocols import Database, Transaction


async def end_own(
    database: Database, session_id: str, why: str, *, by: Principal
) -> Sequence[Change] | Reason | None:
    """As `Sessions.end`, for the owner of the session; TOKEN_REVOKED where what they ask with has
    ended meanwhile.  That very session may be ended once more, until it is confirmed."""
    async with database.transaction() as tx:
        session = await find(tx, session_id)
        if session is None or session.account_id != by.subject:
            return None
        await lock(tx, session.account_id)
        if session_id != by.session_id and not await is_signed_in(tx, by):
            return Reason.TOKEN_REVOKED
        return await end_with_links(tx, session, why)


async def is_signed_in(tx: Transaction, caller: Principal) -> bool:
    """Whether nothing has ended what the caller asks with since it was judged: the session, or the
    token alone.

    The account is held by the transaction: to wait for it takes as long as others hold it, and a
    sign-out may have been answered meanwhile.
    """
    session_id = caller.session_id
    session = None if session_id is None else await find(tx, session_id)
    if session is not None:
        if session.account_id != caller.subject or session.ended_at is not None:
            return False
        return not await is_refused(tx, caller.token_id)
    # A token of an imported key: its session, if it has one, is none of ours, and what refuses it
    # stands among the changes.
    refused = await tx.one(
        "SELECT 1 AS refused FROM changes WHERE (kind = :token AND target = :jti)"
        " OR (kind = :session AND target = :sid)"
        " OR (kind = :subject AND target = :account AND not_before >= :issued_at)",
        token=ChangeKind.TOKEN.value,
        jti=caller.token_id,
        session=ChangeKind.SESSION.value,
        sid=session_id or "",
        subject=ChangeKind.SUBJECT.value,
        account=caller.subject,
        issued_at=caller.issued_at,
    )
    return refused is None


async def is_refused(tx: Transaction, token_id: str) -> bool:
    """Whether a token was refused by itself, though its session lives."""
    refused = await tx.one(
        "SELECT 1 AS refused FROM changes WHERE kind = :token AND target = :jti",
        token=ChangeKind.TOKEN.value,
        jti=token_id,
    )
    return refused is not None
