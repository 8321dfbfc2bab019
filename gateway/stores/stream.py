"""The stream of revocations and the leases of workers, in Redis (decision 0004).

Three keys: a state (`epoch`, and `seq`, the number of the last entry), the stream, and a
hash of leases.  Each operation is one script, so that what it answers is one moment's truth.

Leases do not expire by Redis's clock, which is the wall clock of its host and may jump: a
lease stays until its holder gives it up, or somebody has watched it on a steady clock for as
long as it can be good without renewal (`worker.lease.Watch`), and takes it away.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Sequence

from gateway.model import Change, ChangeKind, Reason
from gateway.stores.protocols import Held, StoreUnavailable, View
from gateway.stores.redis import RedisStore, Script

ENTRIES_AT_ONCE = 500

_KEYS = ("state", "changes", "leases")


class RedisChangeStream:
    """Meets `protocols.ChangeStream`.

    `begins`: where the server holds no stream, a new one is begun.  For workers alone: whoever
    else finds none has come to another server than they.
    """

    def __init__(self, redis: RedisStore, *, begins: bool = True) -> None:
        self._redis = redis
        self._begins = begins
        self._register = Script.shipped("stream", "register")
        self._renew = Script.shipped("stream", "renew")
        self._append = Script.shipped("stream", "append")
        self._view = Script.shipped("stream", "view")
        self._withdraw = Script.shipped("stream", "withdraw")
        self._trim = Script.shipped("stream", "trim")

    async def register(self, worker: str) -> View:
        return self._read(await self._ask(self._register, worker))

    async def renew(self, worker: str, beat: int, position: int, keys_position: int) -> View | None:
        answer = await self._ask(
            self._renew, worker, str(beat), str(position), str(keys_position), str(ENTRIES_AT_ONCE)
        )
        return None if answer == "gone" else self._read(answer)

    async def withdraw(self, worker: str) -> None:
        await self._ask(self._withdraw, worker, "any")

    async def forget(self, worker: str, beat: int) -> None:
        await self._ask(self._withdraw, worker, str(beat))

    async def append(self, changes: Sequence[Change]) -> View:
        return self._read(await self._ask(self._append, *map(written, changes)))

    async def view(self) -> View:
        return self._read(await self._ask(self._view))

    async def peek(self) -> View | None:
        answer = await self._ask(self._view, begins=False)
        return None if answer == "none" else self._read(answer)

    async def news(self, position: int, wait_s: float) -> Sequence[tuple[int, Change | None]]:
        answer = await self._redis.wait(
            *("XREAD", "COUNT", ENTRIES_AT_ONCE, "BLOCK", round(wait_s * 1000), "STREAMS"),
            *(self._redis.prefix + "changes", f"{max(position, 0)}-0"),
            wait_s=wait_s,
        )
        try:
            entries = answer[0][1] if answer else []
            return [(int(id_.partition("-")[0]), read(fields["change"])) for id_, fields in entries]
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            raise StoreUnavailable("redis", "an answer that cannot be read") from error

    async def trim(self, older_than_s: float) -> None:
        await self._ask(self._trim, str(round(older_than_s)))

    async def _ask(self, script: Script, *words: str, begins: bool = True) -> str:
        asked = [secrets.token_hex(8) if begins and self._begins else "", *words]
        asked.append(_digest("\n".join(asked)))
        return str(await self._redis.replicated(script, _KEYS, asked))

    def _read(self, answer: str) -> View:
        if answer == "none":
            raise StoreUnavailable("redis", "it holds no stream of revocations")
        text, _, digest = answer.rpartition("\n")
        if _digest(text) != digest:
            raise StoreUnavailable("redis", "an answer that cannot be read")
        leases: dict[str, Held] = {}
        entries: list[tuple[int, Change | None]] = []
        epoch = server = ""
        end = 0
        for line in text.split("\n"):
            kind, name, rest = line.split(" ", 2)
            if kind == "L":
                leases[name] = Held(*map(int, rest.split(" ")))
            elif kind == "E":
                entries.append((int(name), read(rest)))
            else:
                epoch, (number, server) = name, rest.split(" ")
                end = int(number)
        # The embedded server forgets nothing when it restarts, so its epoch says it all.
        incarnation = epoch if self._redis.durable else f"{epoch}.{server}"
        return View(incarnation, end, leases, entries)


def written(change: Change) -> str:
    """A change as an entry holds it: its digest and its JSON, on one line."""
    fields = [
        change.id,
        change.kind.value,
        change.target,
        change.not_before,
        change.cause.value,
        change.created_at,
    ]
    text = json.dumps(fields, separators=(",", ":"))
    return f"{_digest(text)[:16]} {text}"


def read(entry: str) -> Change | None:
    """The change that an entry holds; None when it cannot be trusted."""
    digest, _, text = entry.partition(" ")
    if _digest(text)[:16] != digest:
        return None
    try:
        id_, kind, target, not_before, cause, created_at = json.loads(text)
        return Change(
            str(id_), ChangeKind(kind), str(target), int(not_before), Reason(cause), int(created_at)
        )
    except (ValueError, TypeError):
        return None


def _digest(text: str) -> str:
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
