"""Whether the nodes that run have the settings in common that they must share.

`shared_settings.agree` compares at the start, with the nodes that run by then.  Nodes that start at
once do not find each other there, nor does one that starts while a store is away.

Law: revocations are kept as long as the longest life of a token asks for, so that a node with a
shorter one would forget what another still needs; and what one node signs or hashes the other
refuses.  So every worker says in SQL what it runs with, each kind of settings in a row of its own,
and while a node of another kind goes on saying so nothing is confirmed and nothing forgotten.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

import structlog

from gateway.app.shared_settings import MAX_STALENESS, compared
from gateway.identity.base64url import encoded
from gateway.revocation.stream_identity import (
    EXPIRES_AFTER_MS,
    FOLLOWS_WITHIN_MS,
    FORGOTTEN_MS,
    HEARTBEAT_S,
)
from gateway.stores.protocols import Database, Transaction

log = structlog.get_logger(__name__)

PREFIX = "settings.running:"
"""How the names of these rows of `installation` begin."""


@dataclass(frozen=True, slots=True)
class _Said:
    settings: Mapping[str, str]
    at_ms: int
    """By SQL's clock."""


class SettingsWatch:
    """One worker's part; `own` is as `shared_settings.shared` gave it."""

    def __init__(self, database: Database, own: Mapping[str, str]) -> None:
        self._database = database
        # The stream's followers compare this one (`revocation.stream_identity`).
        self._own = {name: text for name, text in own.items() if name != MAX_STALENESS}
        digest = hashlib.sha256(json.dumps(self._own, sort_keys=True).encode()).digest()
        self._name = PREFIX + encoded(digest[:12])
        self._since_ms: int | None = None
        self.differs = False
        """Whether a node with other settings runs now."""

    async def run(self) -> None:
        """Until it is cancelled.  Raises StoreUnavailable."""
        while True:
            await self.heartbeat()
            await asyncio.sleep(HEARTBEAT_S)

    async def heartbeat(self) -> None:
        """Says what this node runs with, and looks at what others say.  Raises StoreUnavailable."""
        async with self._database.transaction() as tx:
            now_ms = int(await tx.now() * 1000)
            others = await self._others(tx, now_ms)
            await self._say(tx, now_ms)
        self._since_ms = now_ms if self._since_ms is None else min(self._since_ms, now_ms)
        after_ms = self._since_ms + FOLLOWS_WITHIN_MS
        differing = next((one for one in others if one.at_ms > after_ms), None)
        if differing is not None and not self.differs:
            log.error(
                "settings-differ",
                differences=compared(differing.settings, self._own),
                effect="sign-outs are answered 503: another node of this database runs with other"
                " settings; give every node the same, and start it again",
            )
        elif self.differs and not others:
            log.info("settings-agree")
        self.differs = differing is not None or (self.differs and bool(others))

    async def _others(self, tx: Transaction, now_ms: int) -> list[_Said]:
        """Those with other settings who spoke lately.  What nobody has said for a minute goes."""
        rows = await tx.all(
            "SELECT name, value FROM installation WHERE name LIKE :names AND name <> :own",
            names=f"{PREFIX}%",
            own=self._name,
        )
        others = []
        for row in rows:
            value = json.loads(row["value"])
            said = _Said(value["settings"], int(value["at_ms"]))
            if said.at_ms < now_ms - FORGOTTEN_MS:
                await tx.run(
                    "DELETE FROM installation WHERE name = :name AND value = :value",
                    name=row["name"],
                    value=row["value"],
                )
            # A version that compares more settings than another names what the other lacks.
            if abs(now_ms - said.at_ms) < EXPIRES_AFTER_MS and compared(said.settings, self._own):
                others.append(said)
        return others

    async def _say(self, tx: Transaction, now_ms: int) -> None:
        await tx.run(
            "INSERT INTO installation (name, value) VALUES (:name, :value)"
            " ON CONFLICT (name) DO UPDATE SET value = :value",
            name=self._name,
            value=json.dumps({"at_ms": now_ms, "settings": self._own}, sort_keys=True),
        )
