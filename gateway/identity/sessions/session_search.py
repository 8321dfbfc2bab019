"""Live sessions of everybody, as an operator looks through them: the newest sign-in first."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.stores.protocols import Database


@dataclass(frozen=True, slots=True)
class FoundSession:
    id: str
    account_id: str
    email: str
    user_agent: str
    address: str
    transport: str
    created_at: int
    last_used_at: int
    expires_at: int


@dataclass(frozen=True, slots=True)
class SessionPosition:
    """Where a session stands in the order of the list."""

    created_at: int
    session_id: str


class SessionSearch:
    def __init__(self, database: Database, *, idle_s: int = 0) -> None:
        self._database = database
        self._idle_s = idle_s

    async def page(
        self, before: SessionPosition | None, limit: int, *, account_id: str = ""
    ) -> list[FoundSession]:
        """Those that can still be refreshed; of one account where it is named."""
        async with self._database.read_transaction() as tx:
            now = int(await tx.now())
            # One that may stand idle for ever was used after the year 0.
            values: dict[str, object] = {
                "now": now,
                "idle": now - self._idle_s if self._idle_s else 0,
                "limit": limit,
            }
            conditions = "f.ended_at IS NULL AND f.expires_at > :now AND f.last_used_at > :idle"
            if account_id:
                conditions += " AND f.account_id = :account"
                values["account"] = account_id
            if before is not None:
                conditions += " AND (f.created_at, f.id) < (:created, :id)"
                values |= {"created": before.created_at, "id": before.session_id}
            rows = await tx.all(
                "SELECT f.id, f.account_id, a.email, f.user_agent, f.address, f.transport,"  # noqa: S608
                " f.created_at, f.last_used_at, f.expires_at"
                " FROM families f JOIN accounts a ON a.id = f.account_id"
                f" WHERE {conditions} ORDER BY f.created_at DESC, f.id DESC LIMIT :limit",
                **values,
            )
        return [FoundSession(**row) for row in rows]
