"""The outbox as an operator sees it: what waits, and why; no text and no link of a mail."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from gateway.stores.protocols import Database


class MailState(StrEnum):
    WAITING = "waiting"
    FAILED = "failed"
    SENT = "sent"
    DROPPED = "dropped"


@dataclass(frozen=True, slots=True)
class ListedMail:
    id: str
    template: str
    recipient: str
    """Of one that was not written yet, the address that it was asked for."""
    attempts: int
    created_at: int
    due_at: int
    finished_at: int | None
    is_written: bool
    failure: str


@dataclass(frozen=True, slots=True)
class MailPosition:
    created_at: int
    mail_id: str


class OutboxList:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(
        self, state: MailState, before: MailPosition | None, limit: int
    ) -> list[ListedMail]:
        """The newest first."""
        values: dict[str, object] = {"state": state.value, "limit": limit}
        conditions = "state = :state"
        if before is not None:
            conditions += " AND (created_at, id) < (:created, :id)"
            values |= {"created": before.created_at, "id": before.mail_id}
        async with self._database.read_transaction() as tx:
            rows = await tx.all(
                "SELECT id, template, recipient, email_key, attempts, created_at, due_at,"  # noqa: S608
                " finished_at, prepared_at, failure FROM outbox"
                f" WHERE {conditions} ORDER BY created_at DESC, id DESC LIMIT :limit",
                **values,
            )
        return [
            ListedMail(
                id=str(row["id"]),
                template=str(row["template"]),
                recipient=str(row["recipient"] or row["email_key"]),
                attempts=int(row["attempts"]),
                created_at=int(row["created_at"]),
                due_at=int(row["due_at"]),
                finished_at=None if row["finished_at"] is None else int(row["finished_at"]),
                is_written=row["prepared_at"] is not None,
                failure=str(row["failure"] or ""),
            )
            for row in rows
        ]

    async def send_now(self, mail_id: str) -> bool:
        """False for one that does not wait, or that a worker is sending just now."""
        async with self._database.transaction() as tx:
            now = int(await tx.now())
            return bool(
                await tx.run(
                    "UPDATE outbox SET due_at = :now WHERE id = :id AND state = 'waiting'"
                    " AND claimed_until <= :now",
                    id=mail_id,
                    now=now,
                )
            )

    async def drop(self, mail_id: str) -> bool:
        """It is sent no more, and a link that it carries is good no more.  False as `send_now`."""
        async with self._database.transaction() as tx:
            now = int(await tx.now())
            dropped = await tx.run(
                "UPDATE outbox SET state = 'dropped', finished_at = :now, fields = '{}',"
                " password_hash = NULL WHERE id = :id AND state = 'waiting'"
                " AND claimed_until <= :now",
                id=mail_id,
                now=now,
            )
            if not dropped:
                return False
            await tx.run("DELETE FROM mail_tokens WHERE mail_id = :id", id=mail_id)
            await tx.run("DELETE FROM registrations WHERE mail_id = :id", id=mail_id)
            await tx.run(
                "UPDATE invitations SET mailed_hash = NULL, mail_id = NULL WHERE mail_id = :id",
                id=mail_id,
            )
            return True
