"""The connections to one target of an upstream, and the slots at it.

Law: as in `clusters.py`.  A call holds one slot from before it is sent until it has ended, and a
connection is used again only while its address is one of the target's.
"""

from __future__ import annotations

import asyncio
import errno
import ssl
from collections.abc import Callable, Collection
from time import monotonic

import structlog

from gateway.access.definitions import Tls, Upstream, UpstreamTarget
from gateway.config.upstream_tls import TlsContexts
from gateway.edge.http1.response_head import ResponseHeadReader
from gateway.edge.http1.turns import Turns
from gateway.edge.upstream.connection import SWEEP_S, UpstreamConnection
from gateway.edge.upstream.connection_queue import ConnectionQueue, Deadline
from gateway.edge.upstream.dialling import reach
from gateway.edge.upstream.outcome import Outcome
from gateway.edge.upstream.resolver import Endpoints, has_name
from gateway.edge.upstream.slot_queue import Waiters
from gateway.edge.upstream.slot_shares import Shares
from gateway.edge.upstream.target_health import TargetHealth

log = structlog.get_logger(__name__)

WARN_EVERY_S = 60.0

UNPROVEN_MOST = 64
"""Idle connections to a target that was not seen to keep one: enough to see it."""


_NO_DESCRIPTOR = frozenset((errno.EMFILE, errno.ENFILE))


class NoDescriptor(Exception):
    """There is none left for a connection to an upstream, which may well be there."""


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
        heads: ResponseHeadReader,
        tls: TlsContexts,
        scarce: Callable[[], bool],
    ) -> None:
        """`scarce`: whether there is no descriptor for one more connection."""
        self.target = target
        self.resolve_at = 0.0
        self.is_named = has_name(target)
        self._endpoints = endpoints
        self.turns = turns
        self.heads = heads
        """Reads the responses."""
        self._tls = tls
        self._scarce = scarce
        self.spec = spec
        self.connections: set[UpstreamConnection] = set()
        self.in_flight = 0
        self.holders: dict[str, int] = {}
        """How many slots each client has, also where there is no end of them: a reload may set
        one, and whoever has them then has them."""
        self.reserved = 0
        """Calls that were given to it in this turn of the loop, and hold no slot yet."""
        self.reachable = True
        """Whether the last attempt to connect succeeded."""
        self.health: TargetHealth | None = None
        self.probe_at = 0.0
        self._idle: list[UpstreamConnection] = []
        self._resting: dict[UpstreamConnection, float] = {}
        """Those that the last sweep saw idle for a while, and since when, until that is known."""
        self.keeps_idle = False
        """Whether it was seen to leave an idle connection open.  Who closes after each answer
        and does not say so would lose a call that is sent meanwhile: what cannot be sent again
        has a connection of its own until then."""
        self._all_reusable = False
        """None of the reasons not to pool what was released: a look at one is enough."""
        self._closed = False
        self._retired: set[UpstreamConnection] = set()
        """Those that carry no further call: the name no longer leads there, or what they carry
        may be read in two ways."""
        self._connect_failures = 0
        self._warn_at = 0.0
        self._loop = loop
        self._queue = ConnectionQueue(loop, scarce, self.put_idle)
        self._waiters: Waiters[TargetPool] = Waiters(loop)
        self.shares: Shares | None = None
        """While somebody wants a slot and there is none: who goes first."""
        self.apply(spec, self._waiters)

    def apply(self, spec: Upstream, waiters: Waiters[TargetPool]) -> None:
        """A configuration says what is asked of it; what it is known for stays, if that does."""
        unchanged = self.spec.health == spec.health and self.spec.breaker == spec.breaker
        if spec.health is None and spec.breaker is None:
            self.health = None
        elif self.health is None or not unchanged:
            self.health = TargetHealth(spec, self.target.url)
        self.spec = spec
        self._waiters = waiters

    # --- slots ---

    @property
    def has_capacity(self) -> bool:
        return not self.spec.max_connections or self.in_flight < self.spec.max_connections

    def has_capacity_for(self, client_ip: str) -> bool:
        """Whether a call of this client may take a slot: none that is kept for others."""
        most = self.spec.max_connections
        if not most or self.in_flight >= most:
            return not most
        shares = self.shares
        return shares is None or shares.admits(client_ip, most - self.in_flight)

    def reserve(self, client_ip: str) -> None:
        """A call of this client will be sent here once its task runs: until then it counts as if
        it had."""
        if not self.reserved:
            self._loop.call_soon(self._clear_reserved)
        self.reserved += 1
        if self.health is not None:
            # It may be the one call that tries it: those of the same turn are not.
            self.health.record_dispatch(client_ip, self._loop.time())

    def _clear_reserved(self) -> None:
        self.reserved = 0

    def acquire(self, client_ip: str) -> None:
        """A call of this client is about to be sent here."""
        self.hold(client_ip)
        if self.health is not None:
            self.health.record_dispatch(client_ip, self._loop.time())

    def hold(self, client_ip: str) -> None:
        """One more slot is this client's."""
        self.in_flight += 1
        self.holders[client_ip] = self.holders.get(client_ip, 0) + 1
        if self.shares is not None:
            self.shares.record(client_ip)

    def record_end(self, outcome: Outcome | None, client_ip: str) -> None:
        """What the end of a call tells of the target; None where nobody can say."""
        if self.health is not None:
            self.health.record_end(outcome, client_ip, self._loop.time())

    def release(self, client_ip: str) -> None:
        """It has ended.  Its slot goes to whoever waits, where they may be sent here."""
        self.in_flight -= 1
        if (held := self.holders.get(client_ip, 0)) > 1:
            self.holders[client_ip] = held - 1
        else:
            self.holders.pop(client_ip, None)
        if self.shares is not None:
            self.shares.record_end(client_ip)
        if self._waiters:
            self._waiters.serve(self)

    # --- connections ---

    def take_idle(self) -> UpstreamConnection | None:
        """An idle connection, no longer idle; None when there is none that is fresh enough."""
        while self._idle:
            connection = self._idle.pop()
            transport = connection.transport
            if transport is None or transport.is_closing():
                continue
            if monotonic() - connection.active_at < self.spec.pool_idle_s:
                return connection
            connection.abort()
        return None

    async def obtain(self, *, repeatable: bool) -> UpstreamConnection:
        """One for a call that found none idle, new or just fallen free; raises as `connect`.

        `repeatable`: it may be sent again, and so over what the target may be about to close.
        """
        queue = self._queue
        while not queue.begin():
            if not (self.connections or queue.connecting):
                raise NoDescriptor
            freed = await self._freed(repeatable)
            if freed is None:
                break
            if freed.ready:
                return freed
        connected = late = False
        try:
            connection = await self.connect()
            connected = True
            return connection
        except (TimeoutError, BlockingIOError):  # the latter from a unix socket whose queue is full
            late = True
            raise
        finally:
            queue.end(connected=connected, late=late)

    async def _freed(self, repeatable: bool) -> UpstreamConnection | None:
        """As `ConnectionQueue.wait`; NoDescriptor where that is why."""
        self._all_reusable = False
        try:
            return await self._queue.wait(self.spec, repeatable=repeatable)
        except TimeoutError:
            if self._scarce():
                raise NoDescriptor from None
            raise
        finally:
            self._look_again()

    async def connect(self) -> UpstreamConnection:
        """A new connection, to whatever its name leads to.

        OSError when it is refused, TimeoutError when nobody answers; NoDescriptor when it is we
        who cannot make one.
        """
        if self._scarce():
            raise NoDescriptor
        began_at = self._loop.time()
        due_at = began_at + self.spec.timeout_connect_s
        deadline = Deadline(self._loop, began_at + self.spec.timeout_response_s)
        try:
            async with asyncio.timeout(None) as deadline.timeout:
                deadline.start(due_at)
                try:
                    connection = await self._connect()
                finally:
                    deadline.stop()
        except OSError as error:  # TimeoutError is one
            if error.errno in _NO_DESCRIPTOR:
                raise NoDescriptor from error
            self.reachable = False
            raise
        self.reachable = True
        return connection

    async def _connect(self) -> UpstreamConnection:
        target = self.target
        if target.socket_path is not None:
            return await self._dial_socket(target.socket_path)
        context = self.context()
        if not self.is_named:
            return await self._dial(target.host, context)
        return await reach(
            target,
            self._endpoints,
            lambda address: self._dial(address, context),
            UpstreamConnection.abort,
            within_s=self.spec.timeout_connect_s,
            scarce=self._scarce,
        )

    def record_connect_failure(self, why: str) -> None:
        """A call found nobody here.  Told at the first, then once a minute with their number."""
        self._connect_failures += 1
        now = self._loop.time()
        if now >= self._warn_at:
            log.warning(
                "upstream-unreachable",
                target=self.target.url,
                why=why,
                calls=self._connect_failures,
            )
            self._connect_failures, self._warn_at = 0, now + WARN_EVERY_S

    def is_known_by(self, tls: Tls | None) -> bool:
        """Whether connections that were made already are such as these files would let be made."""
        return self.target.scheme != "https" or self.spec.tls == tls

    def context(self) -> ssl.SSLContext | None:
        """None for plain HTTP; else what `TlsContexts.context` gives and raises."""
        return self._tls.context(self.spec.tls) if self.target.scheme == "https" else None

    async def _dial(self, address: str, context: ssl.SSLContext | None) -> UpstreamConnection:
        connection = UpstreamConnection(self, self._loop)
        try:
            await self._loop.create_connection(
                lambda: connection,
                address,
                self.target.port,
                ssl=context,
                server_hostname=None if context is None else self.target.host,
            )
        except BaseException:
            # Whoever gives up may do so once it is made: uvloop then closes it, and does not tell.
            connection.abort()
            raise
        return connection

    async def _dial_socket(self, path: str) -> UpstreamConnection:
        connection = UpstreamConnection(self, self._loop)
        try:
            await self._loop.create_unix_connection(lambda: connection, path)
        except BaseException:
            connection.abort()  # as above
            raise
        return connection

    def add(self, connection: UpstreamConnection) -> None:
        self.connections.add(connection)

    def put_idle(self, connection: UpstreamConnection) -> None:
        if self._all_reusable:
            self._idle.append(connection)
        elif self._closed or connection in self._retired:
            connection.abort()
        elif self._queue.waiting and self._queue.hand_over(connection, keeps_idle=self.keeps_idle):
            pass
        elif self.keeps_idle or len(self._idle) < UNPROVEN_MOST:
            self._idle.append(connection)
        else:
            connection.abort()

    def discard(self, connection: UpstreamConnection) -> None:
        self.connections.discard(connection)
        self._retired.discard(connection)
        self._look_again()
        if self._queue.waiting:
            self._loop.call_soon(self._queue.give_turns)

    def _look_again(self) -> None:
        unchanged = not (self._closed or self._retired or self._queue.waiting)
        self._all_reusable = self.keeps_idle and unchanged

    def record_reuse(self) -> None:
        """It left an idle connection open for a while, or answered on one again."""
        self.keeps_idle = True
        self._look_again()

    def record_early_close(self) -> None:
        """It closed an idle connection as soon as it was one, and had not said so."""
        self.keeps_idle = self._all_reusable = False

    def retire_connection(self, connection: UpstreamConnection) -> None:
        """It is not used again after what it carries now."""
        self._retired.add(connection)
        self._all_reusable = False

    def addresses_changed(self, addresses: Collection[str]) -> None:
        """The name leads there now: connections elsewhere end with what they carry."""
        elsewhere = [c for c in self.connections if not _leads_to(c, addresses)]
        if not elsewhere or set(elsewhere) <= self._retired:
            return
        log.info("upstream-endpoint-removed", target=self.target.url, connections=len(elsewhere))
        self._retired.update(elsewhere)
        self._all_reusable = False
        for connection in elsewhere:
            if connection in self._idle:
                self._idle.remove(connection)
                connection.abort()

    def sweep(self, now: float) -> None:
        self._queue.give_turns()  # descriptors may be free again
        if self.health is not None and self.health.breaker is not None:
            self.health.breaker.forget(now)
        for connection in list(self.connections):
            connection.sweep(now, self.spec)
        self._idle = [c for c in self._idle if c in self.connections]
        seen, self._resting = self._resting, {}
        if not self.keeps_idle:
            self._resting = {c: c.active_at for c in self._idle if now - c.active_at >= SWEEP_S}
            # Of one sweep alone it might be the loop that stood still, with an end unread.
            if any(seen.get(c) == since for c, since in self._resting.items()):
                self.record_reuse()

    def close(self) -> None:
        """Cut what is idle; what is in flight goes on and is not pooled again."""
        self._closed, self._all_reusable = True, False
        idle, self._idle = self._idle, []
        for connection in idle:
            connection.abort()


def _leads_to(connection: UpstreamConnection, addresses: Collection[str]) -> bool:
    """Whether its other end is one of these; so is what has no address."""
    transport = connection.transport
    peer = None if transport is None else transport.get_extra_info("peername")
    return not isinstance(peer, tuple) or peer[0] in addresses


def authority(target: UpstreamTarget) -> bytes:
    """The `Host` of a target where no client named one."""
    name = f"[{target.host}]" if ":" in target.host else target.host
    return f"{name}:{target.port}".encode("ascii")
