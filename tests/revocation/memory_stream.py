"""The stream of revocations in one process's memory, and ways to it that can be slow or cut."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeVar

from gateway.model import Change
from gateway.stores.protocols import Entry, LeaseState, StoreUnavailable, StreamView

T = TypeVar("T")


@dataclass
class Server:
    """What the scripts of `stores/scripts` do, in one process's memory."""

    incarnation: int = 1
    entries: list[Change | None] = field(default_factory=list)
    leases: dict[str, LeaseState] = field(default_factory=dict)

    def view(self, after: int | None = None) -> StreamView:
        entries = [] if after is None else self.after(after)
        return StreamView(str(self.incarnation), len(self.entries), dict(self.leases), entries)

    def after(self, position: int) -> list[Entry]:
        return list(enumerate(self.entries, 1))[max(position, 0) :]

    def register(self, name: str) -> StreamView:
        self.leases[name] = LeaseState(0, -1, -1)
        return self.view()

    def renew(
        self, name: str, heartbeat: int, position: int, keys_position: int | None = None
    ) -> StreamView | None:
        held = self.leases.get(name)
        if held is None:
            return None
        behind = 0 <= position < len(self.entries)
        keys = position if keys_position is None else keys_position
        self.leases[name] = LeaseState(held.heartbeat if behind else heartbeat, position, keys)
        return self.view(position if behind else None)

    def forget(self, name: str, heartbeat: int) -> None:
        if name in self.leases and self.leases[name].heartbeat == heartbeat:
            del self.leases[name]


class MemoryStream:
    """Meets `protocols.ChangeStream`: a way to a server that this process holds."""

    def __init__(self, server: Server | None = None) -> None:
        self.server = server or Server()
        self.calls: list[tuple[object, ...]] = []
        """What was asked: the name of the method and its arguments."""
        self.called_at: list[tuple[str, float]] = []
        """The same, with when by the loop's clock."""
        self.away: set[str] = set()
        """The methods that fail."""
        self.slow: dict[str, float] = {}
        """How long the answer of a method is under way."""
        self.deaf = False
        """`read_new` gives nothing."""
        self._appended = asyncio.Event()

    def asked(self, name: str) -> list[tuple[object, ...]]:
        return [tuple(arguments) for called, *arguments in self.calls if called == name]

    def times(self, name: str) -> list[float]:
        return [round(at, 6) for called, at in self.called_at if called == name]

    async def register(self, worker: str) -> StreamView:
        self._ask("register", worker)
        return await self._answered("register", self.server.register(worker))

    async def renew(
        self, worker: str, heartbeat: int, position: int, keys_position: int
    ) -> StreamView | None:
        self._ask("renew", worker, heartbeat, position, keys_position)
        view = self.server.renew(worker, heartbeat, position, keys_position)
        return await self._answered("renew", view)

    async def withdraw(self, worker: str) -> None:
        self._ask("withdraw", worker)
        self.server.leases.pop(worker, None)

    async def forget(self, worker: str, heartbeat: int) -> None:
        self._ask("forget", worker, heartbeat)
        self.server.forget(worker, heartbeat)

    async def append(self, changes: Sequence[Change]) -> StreamView:
        self._ask("append", *changes)
        self.server.entries.extend(changes)
        self._appended.set()
        self._appended = asyncio.Event()
        return await self._answered("append", self.server.view())

    async def view(self) -> StreamView:
        self._ask("view")
        return await self._answered("view", self.server.view())

    async def peek(self) -> StreamView | None:
        self._ask("peek")
        return self.server.view()

    async def read_new(self, position: int, wait_s: float) -> Sequence[Entry]:
        self._ask("read_new", position, wait_s)
        with suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                while self.deaf or not self.server.after(position):
                    await self._appended.wait()
        return [] if self.deaf else self.server.after(position)

    async def trim(self, older_than_s: float) -> None:
        self._ask("trim", older_than_s)

    def _ask(self, name: str, *arguments: object) -> None:
        self.calls.append((name, *arguments))
        self.called_at.append((name, asyncio.get_running_loop().time()))
        if name in self.away:
            raise StoreUnavailable("redis", "refused")

    async def _answered(self, name: str, answer: T) -> T:
        await asyncio.sleep(self.slow.get(name, 0))
        return answer
