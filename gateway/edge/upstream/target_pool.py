"""The connections to one target of an upstream, and the places at it.

Law: as in `pools`.  A call holds one place from before it is sent until it has ended, and a
connection is used again only while its address is one of the target's.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Collection
from time import monotonic

import structlog

from gateway.access.definitions import Upstream, UpstreamTarget
from gateway.config.upstream_tls import TlsContexts
from gateway.edge.http1.turns import Turns
from gateway.edge.upstream.connection import SWEEP_S, UpstreamConnection
from gateway.edge.upstream.resolver import Endpoints, has_name
from gateway.edge.upstream.target_health import Standing

log = structlog.get_logger(__name__)

TELL_EVERY_S = 60.0

UNPROVEN_MOST = 64
"""Idle connections to a target that was not seen to keep one: enough to see it."""

Waiting = deque["asyncio.Future[TargetPool]"]


class TargetPool:
    """The connections of one worker to one target, the last used first."""

    def __init__(
        self,
        target: UpstreamTarget,
        spec: Upstream,
        loop: asyncio.AbstractEventLoop,
        endpoints: Endpoints,
        turns: Turns,
        *,
        tls: TlsContexts,
    ) -> None:
        self.target = target
        self.resolve_at = 0.0
        self.named = has_name(target)
        self._endpoints = endpoints
        self.turns = turns
        self._tls = tls
        self.spec = spec
        self.connections: set[UpstreamConnection] = set()
        self.in_flight = 0
        self.promised = 0
        """Calls that were given to it in this turn of the loop, and hold no place yet."""
        self.reachable = True
        """Whether the last attempt to connect succeeded."""
        self.standing: Standing | None = None
        self.probe_at = 0.0
        self._idle: list[UpstreamConnection] = []
        self.keeps = False
        """Whether it was seen to leave an idle connection open.  Who closes after each answer
        and does not say so would lose a call that is sent meanwhile: what cannot be sent again
        has a connection of its own until then."""
        self._keeps_all = False
        """None of the reasons not to pool what was released: a look at one is enough."""
        self._closed = False
        self._leaving: set[UpstreamConnection] = set()
        """Those that carry no further call: the name no longer leads there, or what they carry
        may be read in two ways."""
        self._missed = 0
        self._tell_at = 0.0
        self._loop = loop
        self._waiting: Waiting = deque()
        self.adopt(spec, self._waiting)

    def adopt(self, spec: Upstream, waiting: Waiting) -> None:
        """A configuration says what is asked of it; what it is known for stays, if that does."""
        same = self.spec.health == spec.health and self.spec.breaker == spec.breaker
        if spec.health is None and spec.breaker is None:
            self.standing = None
        elif self.standing is None or not same:
            self.standing = Standing(spec, self.target.url)
        self.spec = spec
        self._waiting = waiting

    # --- places ---

    @property
    def has_room(self) -> bool:
        return not self.spec.max_connections or self.in_flight < self.spec.max_connections

    def promise(self) -> None:
        """A call will be sent here once its task runs: until then it counts as if it had."""
        if not self.promised:
            self._loop.call_soon(self._forget_promises)
        self.promised += 1

    def _forget_promises(self) -> None:
        self.promised = 0

    def enter(self) -> None:
        """A call is about to be sent here."""
        self.in_flight += 1
        if self.standing is not None:
            self.standing.sent(self._loop.time())

    def leave(self, met: bool | None) -> None:
        """It has ended; `met` is whether the target did its part, None where nobody knows.

        Its place goes to whoever waits: nobody who comes meanwhile can take it.
        """
        if met is not None and self.standing is not None:
            self.standing.met(met, self._loop.time())
        waiting = self._waiting
        while waiting and self.in_flight <= self.spec.max_connections:
            first = waiting.popleft()
            if not first.done():
                first.set_result(self)
                return
        self.in_flight -= 1

    # --- connections ---

    def take(self) -> UpstreamConnection | None:
        """An idle connection, no longer idle; None when there is none that is fresh enough."""
        while self._idle:
            connection = self._idle.pop()
            transport = connection.transport
            if transport is None or transport.is_closing():
                continue
            if monotonic() - connection.began_at < self.spec.pool_idle_s:
                return connection
            connection.abort()
        return None

    async def connect(self) -> UpstreamConnection:
        """A new connection, to whatever its name leads to.

        OSError when it is refused, TimeoutError when nobody answers.
        """
        try:
            async with asyncio.timeout(self.spec.timeout_connect_s):
                connection = await self._connect()
        except OSError:  # TimeoutError is one
            self.reachable = False
            raise
        self.reachable = True
        return connection

    async def _connect(self) -> UpstreamConnection:
        target = self.target
        if target.socket_path is not None:
            _, connection = await self._loop.create_unix_connection(
                lambda: UpstreamConnection(self, self._loop), target.socket_path
            )
            return connection
        context = self.context()
        if not self.named:
            return await self._dial(target.host, context)
        missed: OSError | None = None
        tried: list[str] = []
        # Where it is known to be, and, if it is not there any more, where it is now.
        for where in (self._endpoints.addresses, self._endpoints.looked_up):
            for address in await where(target.host, target.port):
                if address in tried:
                    continue
                tried.append(address)
                try:
                    return await self._dial(address, context)
                except OSError as error:
                    missed = error
        raise missed or OSError("the name has no address")

    def missed(self, why: str) -> None:
        """A call found nobody here.  Told at the first, then once a minute with their number."""
        self._missed += 1
        now = self._loop.time()
        if now >= self._tell_at:
            log.warning("upstream-unreachable", target=self.target.url, why=why, calls=self._missed)
            self._missed, self._tell_at = 0, now + TELL_EVERY_S

    def context(self) -> ssl.SSLContext | None:
        """None for plain HTTP; else what `TlsContexts.context` gives and raises."""
        return self._tls.context(self.spec.tls) if self.target.scheme == "https" else None

    async def _dial(self, address: str, context: ssl.SSLContext | None) -> UpstreamConnection:
        _, connection = await self._loop.create_connection(
            lambda: UpstreamConnection(self, self._loop),
            address,
            self.target.port,
            ssl=context,
            server_hostname=None if context is None else self.target.host,
        )
        return connection

    def release(self, connection: UpstreamConnection) -> None:
        if self._keeps_all:
            self._idle.append(connection)
        elif self._closed or connection in self._leaving:
            connection.abort()
        elif self.keeps or len(self._idle) < UNPROVEN_MOST:
            self._idle.append(connection)
        else:
            connection.abort()

    def forget(self, connection: UpstreamConnection) -> None:
        self.connections.discard(connection)
        self._leaving.discard(connection)
        self._keeps_all = self.keeps and not (self._closed or self._leaving)

    def kept(self) -> None:
        """It left an idle connection open for a while, or answered on one again."""
        self.keeps = True
        self._keeps_all = not (self._closed or self._leaving)

    def left_early(self) -> None:
        """It closed an idle connection as soon as it was one, and had not said so."""
        self.keeps = self._keeps_all = False

    def part_with(self, connection: UpstreamConnection) -> None:
        """It is not used again after what it carries now."""
        self._leaving.add(connection)
        self._keeps_all = False

    def moved(self, addresses: Collection[str]) -> None:
        """The name leads there now: connections elsewhere end with what they carry."""
        gone = [c for c in self.connections if not c.leads_to(addresses)]
        if not gone or set(gone) <= self._leaving:
            return
        log.info("upstream-endpoint-removed", target=self.target.url, connections=len(gone))
        self._leaving.update(gone)
        self._keeps_all = False
        for connection in gone:
            if connection in self._idle:
                self._idle.remove(connection)
                connection.abort()

    def sweep(self, now: float) -> None:
        for connection in list(self.connections):
            connection.sweep(now, self.spec)
        self._idle = [c for c in self._idle if c in self.connections]
        if not self.keeps and any(now - c.began_at >= SWEEP_S for c in self._idle):
            self.kept()

    def close(self) -> None:
        """Cut what is idle; what is in flight goes on and is not pooled again."""
        self._closed, self._keeps_all = True, False
        idle, self._idle = self._idle, []
        for connection in idle:
            connection.abort()


def authority(target: UpstreamTarget) -> bytes:
    """The `Host` of a target where no client named one."""
    name = f"[{target.host}]" if ":" in target.host else target.host
    return f"{name}:{target.port}".encode("ascii")
