"""What a caller calls with, held while something is written for them.

Law: whoever holds a row here has first taken the turn of those who act for others: two who act on
each other's accounts never wait for one another.  The rows come in the order in which every other
transaction takes them: the account, then its session or its key.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from gateway.identity.clients.api_keys import AMR
from gateway.identity.sessions.restore import ANYBODY
from gateway.identity.sessions.sessions import lock
from gateway.model import OWN_ISSUER, ChangeKind, Principal, Reason, without_session
from gateway.stores.protocols import Transaction

_TURN = "operators.turn"
"""The row of `installation` that one transaction holds at a time."""
_REFUSING = (
    "SELECT kind, cause FROM changes"
    " WHERE target IN (:session, :token, :key, :subject, :without, :client, :everyone) AND ("
    "(kind = 'session' AND target = :session) OR (kind = 'token' AND target = :token)"
    " OR (kind = 'key' AND target = :key) OR (not_before >= :issued_at AND ("
    "(kind = 'subject' AND target IN (:subject, :without))"
    " OR (kind = 'client' AND target = :client) OR kind = 'everyone')))"
)


@dataclass(frozen=True, slots=True)
class HeldCaller:
    caller: Principal
    unheld: Sequence[ChangeKind]
    """By what the caller may be refused meanwhile all the same: no row stands for it here."""

    async def refusal(
        self, tx: Transaction, *, ending: Collection[ChangeKind] = ()
    ) -> Reason | None:
        """Of the end of the transaction, by what nothing could hold.  `ending` are those of which
        the transaction itself ends what the caller calls with."""
        return await _refusal(tx, self.caller, [one for one in self.unheld if one not in ending])


async def take_turn(tx: Transaction) -> None:
    """Waits for every other transaction in which somebody acts for others; before any row of
    theirs, and of whom they act on, is held."""
    await tx.run(
        "INSERT INTO installation (name, value) VALUES (:name, '')"
        " ON CONFLICT (name) DO UPDATE SET value = installation.value",
        name=_TURN,
    )


async def hold(tx: Transaction, caller: Principal) -> HeldCaller | Reason:
    """Why the caller may write no more; else what they call with ends no earlier than the
    transaction.  It is in its turn."""
    account = await lock(tx, caller.subject)
    if account is not None and account["disabled"]:
        return Reason.TOKEN_REVOKED
    unheld = [ChangeKind.EVERYONE]
    unheld += [ChangeKind.SUBJECT] if account is None else []
    # The row of the key that signed it is held by who moves keys: they wait for nobody here.
    unheld += [ChangeKind.KEY] if caller.kid else []
    if caller.session_id is not None:
        session = await tx.one(
            "UPDATE families SET id = id WHERE id = :id RETURNING account_id, ended_at",
            id=caller.session_id,
        )
        if session is None:
            unheld.append(ChangeKind.SESSION)
        elif session["account_id"] != caller.subject or session["ended_at"] is not None:
            return Reason.TOKEN_REVOKED
    if caller.client_id is not None:
        held = await tx.run("UPDATE clients SET id = id WHERE id = :id", id=caller.client_id)
        unheld += [] if held else [ChangeKind.CLIENT]
    if _is_key(caller):
        table = "personal_keys" if caller.client_id is None else "api_keys"
        key = await tx.one(
            f"UPDATE {table} SET id = id WHERE id = :id RETURNING ended_at",  # noqa: S608
            id=caller.token_id,
        )
        if key is None or key["ended_at"] is not None:
            return Reason.TOKEN_REVOKED
    else:
        unheld.append(ChangeKind.TOKEN)
    return await _refusal(tx, caller, tuple(ChangeKind)) or HeldCaller(caller, unheld)


def _is_key(caller: Principal) -> bool:
    """A key of ours is signed by nobody; what `amr` a token has is for its issuer to write."""
    return caller.amr == AMR and caller.kid == "" and caller.issuer == OWN_ISSUER


async def _refusal(
    tx: Transaction, caller: Principal, kinds: Collection[ChangeKind]
) -> Reason | None:
    """As `revocation.revocation_list` says it, by what stands in SQL."""
    without = ""
    if caller.session_id is None and caller.issuer != OWN_ISSUER:
        without = without_session(caller.subject)
    rows = await tx.all(
        _REFUSING,
        session=caller.session_id or "",
        token=caller.token_id,
        key=caller.kid,
        subject=caller.subject,
        without=without,
        client=caller.client_id or "",
        everyone=ANYBODY,
        issued_at=caller.issued_at,
    )
    causes = {Reason(row["cause"]) for row in rows if row["kind"] in kinds}
    if not causes:
        return None
    # What is only outdated is told so where nothing else is to be told.
    return Reason.TOKEN_OUTDATED if causes == {Reason.TOKEN_OUTDATED} else Reason.TOKEN_REVOKED
