"""What becomes of mail, and of what mails led to, once its time is over."""

from __future__ import annotations

from gateway.identity.mail import invitations, registrations
from gateway.identity.mail.links import purge_links
from gateway.identity.mail.transport import GIVE_UP_S
from gateway.identity.purging import run_in_parts
from gateway.stores.protocols import Database

_KEPT_S = 86_400


async def purge_outbox(database: Database) -> None:
    """Erase mail that was sent or dropped a day ago, and links that have expired."""
    async with database.read_transaction() as tx:
        now = int(await tx.now())
    await run_in_parts(
        database,
        "DELETE FROM outbox",
        "outbox",
        "id",
        "state <> 'waiting' AND finished_at < :before",
        before=now - _KEPT_S,
    )
    await run_in_parts(
        database,
        "UPDATE outbox SET state = 'failed', failure = 'too old', finished_at = :now,"
        " fields = '{}', password_hash = NULL",
        "outbox",
        "id",
        "state = 'waiting' AND created_at < :before",
        now=now,
        before=now - GIVE_UP_S,
    )
    await purge_links(database, now)
    await registrations.purge(database, now)
    await invitations.purge(database, now)
