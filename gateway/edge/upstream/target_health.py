"""Whether a target may be sent calls, as its probes and calls have shown.

Law: only what the connection shows counts as a failure (refused, silent, not HTTP); a status is
the backend's answer and its own affair.  With `health`, `fall` failures in a row take a target
out and only `rise` good probes bring it back.  Probes and calls are counted apart: a backend
whose health path says no is out, however well it answers calls.  Of calls those count that were
refused; those that were let in too late, or not, once for each neighbourhood, and so many of them
that it is no burst of one client's.  What they met afterwards may be their own doing.  With
`breaker`, `circuit_breaker.py` keeps calls away.  Each worker judges for itself.
"""

from __future__ import annotations

import asyncio
import ssl

import structlog

from gateway.access.definitions import Health, Upstream, UpstreamTarget
from gateway.client_networks import neighbourhood
from gateway.edge.http1.grammar import Malformed
from gateway.edge.http1.response_head import MAX_HEAD_BYTES, ResponseHeadReader
from gateway.edge.upstream.circuit_breaker import WITNESSES, CircuitBreaker
from gateway.edge.upstream.connection import MAX_INTERIM
from gateway.edge.upstream.dialling import reach
from gateway.edge.upstream.outcome import Outcome
from gateway.edge.upstream.resolver import Endpoints, has_name

log = structlog.get_logger(__name__)


class TargetHealth:
    __slots__ = ("_failed_calls", "_failed_probes", "_good_probes", "_not_let_in", "_spec", "_url",
                 "breaker", "healthy")  # fmt: skip

    def __init__(self, spec: Upstream, url: str) -> None:
        self._spec = spec
        self._url = url
        self.healthy = True
        self.breaker = None if spec.breaker is None else CircuitBreaker(spec.breaker, url)
        self._failed_calls = 0
        self._not_let_in: set[str] = set()
        """Whose calls got no connection, and no call was answered since."""
        self._failed_probes = 0
        self._good_probes = 0

    def available(self, client_ip: str, now: float) -> bool:
        """It is healthy, and its breaker keeps away nobody, or is due for a trial."""
        breaker = self.breaker
        if not self.healthy or breaker is None:
            return self.healthy
        return not breaker.is_open(now) and breaker.admits(client_ip, now)

    def admits(self, client_ip: str, now: float) -> bool:
        """Its breaker lets this client's call pass, which has nowhere else to go."""
        return self.breaker is None or self.breaker.admits(client_ip, now)

    @property
    def admits_all(self) -> bool:
        """Its breaker lets the call of every client pass."""
        return self.breaker is None or self.breaker.is_closed

    def is_open(self, now: float) -> bool:
        """The breaker keeps calls away."""
        return self.breaker is not None and self.breaker.is_open(now)

    def record_dispatch(self, client_ip: str, now: float) -> None:
        """A call goes there."""
        if self.breaker is not None:
            self.breaker.record_dispatch(client_ip, now)

    def record_answer(self, client_ip: str, now: float) -> None:
        """The head of an answer came."""
        self._failed_calls = 0
        if self._not_let_in:
            self._not_let_in.clear()
        if self.breaker is not None:
            self.breaker.record_answer(client_ip, now)

    def record_end(self, outcome: Outcome | None, client_ip: str, now: float) -> None:
        """How a call ended; None where nobody can say.  An answer was told when it began."""
        if outcome is Outcome.ANSWERED:
            return
        if self._spec.health is not None:
            self._record_call(self._spec.health, outcome, client_ip)
        breaker = self.breaker
        if breaker is None:
            return
        if outcome is None:
            breaker.record_unknown(client_ip, now)
        else:
            breaker.record_failure(client_ip, now, by_nobody=outcome is Outcome.UNREACHED)

    def record_probe(self, ok: bool) -> None:
        health = self._spec.health
        if health is None:
            return
        if not ok:
            self._failed_probes += 1
            self._record_failures(health, self._failed_probes)
            return
        self._failed_probes = 0
        if not self.healthy:
            self._good_probes += 1
            if self._good_probes >= health.rise:
                self.healthy = True
                self._failed_calls = 0
                self._not_let_in.clear()
                log.info("upstream-target-up", target=self._url)

    def _record_call(self, health: Health, outcome: Outcome | None, client_ip: str) -> None:
        if outcome is Outcome.UNREACHED:
            self._failed_calls += 1
            self._record_failures(health, self._failed_calls)
        elif outcome is Outcome.NOT_LET_IN and self.healthy:
            self._not_let_in.add(neighbourhood(client_ip))
            if len(self._not_let_in) >= WITNESSES:
                self._record_failures(health, len(self._not_let_in))

    def _record_failures(self, health: Health, failures: int) -> None:
        """`failures` in a row, of calls or of probes."""
        self._good_probes = 0
        if self.healthy and failures >= health.fall:
            self.healthy = False
            log.warning("upstream-target-down", target=self._url, failures=failures)


async def probe(
    target: UpstreamTarget,
    health: Health,
    host: bytes,
    context: ssl.SSLContext | None,
    endpoints: Endpoints,
) -> bool:
    """Whether one `GET` of the health path is answered 2xx in time, on a connection of its own."""
    try:
        async with asyncio.timeout(health.timeout_s):
            reader, writer = await _open(target, context, endpoints, health.timeout_s)
            try:
                writer.write(
                    b"GET %b HTTP/1.1\r\nHost: %b\r\nUser-Agent: authgate-health\r\n"
                    b"Connection: close\r\n\r\n" % (health.path.encode("latin-1"), host)
                )
                return 200 <= await _final_status(reader) < 300
            finally:
                writer.transport.abort()
    except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        return False
    except Malformed:
        return False


async def _final_status(reader: asyncio.StreamReader) -> int:
    """Of the answer itself: any number of 1xx may come before it (RFC 9110 section 15.2), but for
    101, behind which is no HTTP."""
    heads = ResponseHeadReader()
    for _ in range(MAX_INTERIM + 1):
        head = await reader.readuntil(b"\r\n\r\n")
        status = heads.read(head[:-4]).status
        if status >= 200 or status == 101:
            return status
    raise Malformed("interim responses")


Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def _open(
    target: UpstreamTarget,
    context: ssl.SSLContext | None,
    endpoints: Endpoints,
    within_s: float,
) -> Streams:
    if target.socket_path is not None:
        return await asyncio.open_unix_connection(target.socket_path, limit=MAX_HEAD_BYTES)

    async def dial(address: str) -> Streams:
        return await asyncio.open_connection(
            address,
            target.port,
            ssl=context,
            server_hostname=None if context is None else target.host,
            limit=MAX_HEAD_BYTES,
        )

    if not has_name(target):
        return await dial(target.host)
    return await reach(target, endpoints, dial, _drop, within_s=within_s)


def _drop(streams: Streams) -> None:
    streams[1].transport.abort()
