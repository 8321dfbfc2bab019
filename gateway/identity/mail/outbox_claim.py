"""Which mails of the outbox a worker sends next: requesters take turns, and what any stranger may
have sent to any mailbox has a part of the places.

Law: whose turn it is depends on what was asked for, by whom, and on whether a try has failed; never
on whether anybody gets the mail.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gateway.stores.protocols import Database, Row

_CLAIM_S = 120
_TRIES = 3
_REMEMBERED = 256
"""Requesters: those of one IPv4 /24."""
_ENDS = 2_500
"""However much is due, a claim chooses of so many of the oldest, and of the newest.  What stands
between them becomes the oldest."""

# Mail that confirms an address goes to whatever address somebody types; any other to an account
# or to whom an operator invited.
_LIMITED = "(failure IS NOT NULL OR COALESCE(purpose, '') IN ('verify', 'address'))"
_RETRY = 2
_KIND = f"CASE WHEN failure IS NOT NULL THEN {_RETRY} WHEN {_LIMITED} THEN 1 ELSE 0 END"


@dataclass(frozen=True, slots=True)
class ClaimedMail:
    id: str
    limited: bool
    """Any stranger may have any mailbox for it, or a try has failed: a mail server may be slow for
    as many of these as somebody likes."""


class MailClaims:
    """Of one worker's outbox."""

    def __init__(self, database: Database, *, ends: int = _ENDS) -> None:
        self._database = database
        self._ends = ends
        self._by_age = {True: True, False: True}
        """Whether the last claim went by age: of those that may take limited mail, and of the
        others.  Else whoever has a mail of the other kind sent in between chose the next one's."""
        self._served: dict[str, None] = {}
        """Those who had a mail begun, the latest last.  When one ends has no say, as that would
        tell who gets one."""

    async def claim(self, most: int, most_limited: int, *, unwritten: bool) -> list[ClaimedMail]:
        """Claim mail that is due: no other worker sends it for two minutes.

        First comes one mail of each requester (each mail without one), then another; of those who
        have one, first whoever had none begun for longest; of one's own first what resets or
        invites or tells, then what confirms an address, then what is tried again.  Every second
        time what has waited for longest: whoever sends a mail in more names than are remembered
        would else stand before what is tried again for as long as they go on.  `unwritten`: only
        what was never written.

        It is chosen without a lock, so that nobody else's writing waits while many are compared,
        and anew where other workers were faster.
        """
        may_be_limited = most_limited > 0
        due = (
            "state = 'waiting' AND due_at <= :now AND claimed_until <= :now"
            + (" AND prepared_at IS NULL" if unwritten else "")
            + ("" if may_be_limited else f" AND NOT {_LIMITED}")
        )
        by_age = not self._by_age[may_be_limited]
        order = "due_at, id" if by_age else "turn, served, kind, due_at, id"
        rows: Sequence[Row] = ()
        for _ in range(_TRIES):
            now, ids = await self._choose(due, order, most, most_limited)
            if not ids:
                return []
            self._by_age[may_be_limited] = by_age
            rows = await self._claim(due, now, ids)
            if rows:
                break
        # What is tried again is mail that somebody gets: whose turn comes says nothing of that.
        self._remember(str(row["requester"]) for row in rows if int(row["kind"]) < _RETRY)
        return [ClaimedMail(str(row["id"]), limited=int(row["kind"]) > 0) for row in rows]

    async def _choose(
        self, due: str, order: str, most: int, most_limited: int
    ) -> tuple[int, list[str]]:
        """What is to be sent next, and when it was due."""
        names = {f"served_{number}": name for number, name in enumerate(self._served)}
        whens = "".join(f" WHEN :{name} THEN {rank + 1}" for rank, name in enumerate(names))
        served = (
            f"CASE WHEN turn > 1 THEN 0 ELSE CASE requester WHEN '' THEN 0{whens} ELSE 0 END END"
        )
        read = f"SELECT id, due_at, requester, {_KIND} AS kind FROM outbox WHERE {due}"  # noqa: S608
        async with self._database.read_transaction() as tx:
            now = int(await tx.now())
            if await tx.one(f"{read} LIMIT 1", now=now) is None:
                return now, []
            rows = await tx.all(
                "SELECT id FROM (SELECT turns.*, ROW_NUMBER() OVER"  # noqa: S608
                f"   (PARTITION BY CASE WHEN kind > 0 THEN 1 ELSE 0 END ORDER BY {order}) AS place"
                f"   FROM (SELECT counted.*, {served} AS served"
                "    FROM (SELECT waiting.*, CASE WHEN requester = '' THEN 1 ELSE ROW_NUMBER()"
                "      OVER (PARTITION BY requester, kind ORDER BY due_at, id) END AS turn"
                f"     FROM (SELECT * FROM ({read} ORDER BY due_at, id LIMIT :ends) AS oldest UNION"
                f"      SELECT * FROM ({read} ORDER BY due_at DESC, id DESC LIMIT :ends) AS newest"
                "     ) AS waiting) AS counted) AS turns) AS places"
                "  WHERE kind = 0 OR place <= :most_limited"
                f"  ORDER BY {order} LIMIT :most",
                now=now,
                most=most,
                most_limited=most_limited,
                ends=self._ends,
                **names,
            )
        return now, [str(row["id"]) for row in rows]

    async def _claim(self, due: str, now: int, mail_ids: list[str]) -> Sequence[Row]:
        """Those that no other worker has claimed since."""
        ids = {f"id_{number}": mail_id for number, mail_id in enumerate(mail_ids)}
        async with self._database.transaction() as tx:
            return await tx.all(
                "UPDATE outbox SET claimed_until = :until, attempts = attempts + 1"  # noqa: S608
                f" WHERE {due} AND id IN ({', '.join(f':{name}' for name in ids)})"
                f" RETURNING id, requester, {_KIND} AS kind",
                now=now,
                until=now + _CLAIM_S,
                **ids,
            )

    def _remember(self, requesters: Iterable[str]) -> None:
        for requester in filter(None, requesters):
            self._served.pop(requester, None)
            self._served[requester] = None
        while len(self._served) > _REMEMBERED:
            del self._served[next(iter(self._served))]
