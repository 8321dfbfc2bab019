"""Machine clients page by page, and how many secrets and live keys each has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.stores.protocols import Database, Transaction

_LAST = "\U0010ffff"


@dataclass(frozen=True, slots=True)
class FoundClient:
    id: str
    name: str
    roles: tuple[str, ...]
    has_public_keys: bool
    secrets: int
    api_keys: int
    """Those that have not ended."""
    created_at: int
    last_used_at: int | None


class ClientSearch:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(self, beginning: str, after: str, limit: int) -> list[FoundClient]:
        """By name, after `after`; `beginning` of the name, or a whole id."""
        # Names are ASCII; both stores compare them by bytes where PostgreSQL is told to.
        name = "name" if self._database.dialect == "sqlite" else 'name COLLATE "C"'
        conditions = f"{name} > :after"
        if beginning:
            if not beginning.isprintable():
                return []
            conditions += f" AND (id = :first OR ({name} >= :first AND {name} < :last))"
        async with self._database.read_transaction() as tx:
            rows = await tx.all(
                "SELECT id, name, public_jwks, created_at, last_used_at FROM clients"  # noqa: S608
                f" WHERE {conditions} ORDER BY {name} LIMIT :limit",
                after=after,
                limit=limit,
                first=beginning,
                last=beginning + _LAST,
            )
            ids = [str(row["id"]) for row in rows]
            roles = await _texts(tx, "role", "client_roles", ids)
            secrets = await _texts(tx, "hash", "client_secrets", ids)
            keys = await _texts(tx, "id", "api_keys", ids, " AND ended_at IS NULL")
        return [
            FoundClient(
                id=str(row["id"]),
                name=str(row["name"]),
                roles=tuple(sorted(roles.get(str(row["id"]), ()))),
                has_public_keys=row["public_jwks"] is not None,
                secrets=len(secrets.get(str(row["id"]), ())),
                api_keys=len(keys.get(str(row["id"]), ())),
                created_at=int(row["created_at"]),
                last_used_at=None if row["last_used_at"] is None else int(row["last_used_at"]),
            )
            for row in rows
        ]


async def _texts(
    tx: Transaction, column: str, table: str, client_ids: Sequence[str], more: str = ""
) -> dict[str, list[str]]:
    """By client."""
    named = {f"id{n}": client_id for n, client_id in enumerate(client_ids)}
    if not named:
        return {}
    listed = ", ".join(f":{name}" for name in named)
    rows = await tx.all(
        f"SELECT client_id, {column} AS text FROM {table} WHERE client_id IN ({listed}){more}",  # noqa: S608
        **named,
    )
    texts: dict[str, list[str]] = {}
    for row in rows:
        texts.setdefault(str(row["client_id"]), []).append(str(row["text"]))
    return texts
