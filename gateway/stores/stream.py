"""The stream of revocations and the leases of workers, in Redis (decision 0004).

Three keys: a state (`epoch`, and `seq`, the number of the last entry), the stream, and a
hash of leases.  Each operation is one script, so that what it answers is one moment's truth.

Leases do not expire by Redis's clock, which is the wall clock of its host and may jump: a
lease stays until its holder gives it up, or somebody has watched it on a steady clock for as
long as it can be good without renewal (`revocation.lease.LeaseMonitor`), and removes it.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Sequence

from gateway.model import Change, ChangeKind, Reason
from gateway.stores.protocols import Entry, LeaseState, StoreUnavailable, StreamView
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

    async def register(self, worker: str) -> StreamView:
        return self._view_of(await self._ask(self._register, worker))

    async def renew(
        self, worker: str, heartbeat: int, position: int, keys_position: int
    ) -> StreamView | None:
        numbers = map(str, (heartbeat, position, keys_position, ENTRIES_AT_ONCE))
        answer = await self._ask(self._renew, worker, *numbers)
        return None if answer == "gone" else self._view_of(answer)

    async def withdraw(self, worker: str) -> None:
        await self._ask(self._withdraw, worker, "any")

    async def forget(self, worker: str, heartbeat: int) -> None:
        await self._ask(self._withdraw, worker, str(heartbeat))

    async def append(self, changes: Sequence[Change]) -> StreamView:
        return self._view_of(await self._ask(self._append, *map(encode, changes)))

    async def view(self) -> StreamView:
        return self._view_of(await self._ask(self._view))

    async def peek(self) -> StreamView | None:
        answer = await self._ask(self._view, begins=False)
        return None if answer == "none" else self._view_of(answer)

    async def read_new(self, position: int, wait_s: float) -> Sequence[Entry]:
        answer = await self._redis.wait(
            *("XREAD", "COUNT", ENTRIES_AT_ONCE, "BLOCK", round(wait_s * 1000), "STREAMS"),
            *(self._redis.prefix + "changes", f"{max(position, 0)}-0"),
            wait_s=wait_s,
        )
        try:
            entries = answer[0][1] if answer else []
            return [
                (int(id_.partition("-")[0]), decode(fields["change"])) for id_, fields in entries
            ]
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            raise StoreUnavailable("redis", "an answer that cannot be read") from error

    async def trim(self, older_than_s: float) -> None:
        await self._ask(self._trim, str(round(older_than_s)))

    async def _ask(self, script: Script, *words: str, begins: bool = True) -> str:
        arguments = [secrets.token_hex(8) if begins and self._begins else "", *words]
        arguments.append(_digest("\n".join(arguments)))
        return str(await self._redis.replicated(script, _KEYS, arguments))

    def _view_of(self, answer: str) -> StreamView:
        if answer == "none":
            raise StoreUnavailable("redis", "it holds no stream of revocations")
        text, _, digest = answer.rpartition("\n")
        if _digest(text) != digest:
            raise StoreUnavailable("redis", "an answer that cannot be read")
        leases: dict[str, LeaseState] = {}
        entries: list[Entry] = []
        epoch = server = ""
        end = 0
        for line in text.split("\n"):
            kind, name, rest = line.split(" ", 2)
            if kind == "L":
                leases[name] = LeaseState(*map(int, rest.split(" ")))
            elif kind == "E":
                entries.append((int(name), decode(rest)))
            else:
                epoch, (number, server) = name, rest.split(" ")
                end = int(number)
        # The embedded server forgets nothing when it restarts, so its epoch says it all.
        incarnation = epoch if self._redis.durable else f"{epoch}.{server}"
        return StreamView(incarnation, end, leases, entries)


def encode(change: Change) -> str:
    """Returns a change as an entry holds it: its digest and its JSON, on one line."""
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


def decode(entry: str) -> Change | None:
    """Returns the change that an entry holds; None when it cannot be trusted."""
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
