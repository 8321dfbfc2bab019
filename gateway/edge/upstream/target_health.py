"""Whether a target may be sent calls, as its probes and calls have shown.

Law: only what the connection shows counts as a failure (refused, silent, not HTTP); a status is
the backend's answer and its own affair.  With `health`, `fall` failures in a row take a target
out and only `rise` good probes bring it back.  Probes and calls are counted apart: a backend
whose health path says no is out, however well it answers calls.  With `breaker`, that many
failures within the window close it for `open`; then one call tries it, and decides once it is
answered.  Each worker judges for itself.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque

import structlog

from gateway.access.definitions import Health, Upstream, UpstreamTarget
from gateway.edge.http1.grammar import Malformed
from gateway.edge.http1.response_head import MAX_HEAD_BYTES, ResponseHeadReader
from gateway.edge.upstream.resolver import Endpoints, has_name

log = structlog.get_logger(__name__)


class TargetHealth:
    __slots__ = (
        "_failed_calls",
        "_failed_probes",
        "_failures",
        "_good_probes",
        "_open_until",
        "_spec",
        "_trying",
        "_url",
        "healthy",
    )

    def __init__(self, spec: Upstream, url: str) -> None:
        self._spec = spec
        self._url = url
        self.healthy = True
        self._failed_calls = 0
        self._failed_probes = 0
        self._good_probes = 0
        self._open_until = 0.0
        self._trying = False
        """A call tries it after the breaker's rest, and nobody knows yet what it meets."""
        breaker = spec.breaker
        self._failures: deque[float] = deque(maxlen=breaker.failures if breaker else 1)

    def available(self, now: float) -> bool:
        return self.healthy and now >= self._open_until

    def is_open(self, now: float) -> bool:
        """The breaker keeps calls away."""
        return now < self._open_until

    def record_dispatch(self, now: float) -> None:
        """A call goes there.  The first one after the breaker's rest is its only trial."""
        breaker = self._spec.breaker
        if self._open_until and breaker is not None:
            self._open_until = now + breaker.open_s
            self._trying = True

    def record_answer(self) -> None:
        """It answers a call, which may go on for a day: the breaker does not wait for its end."""
        self._open_until = 0.0
        self._trying = False

    def record_unknown(self, now: float) -> None:
        """A call has ended, and not by what the target did: the next one tries it."""
        if self._trying:
            self._trying = False
            self._open_until = now

    def record_result(self, ok: bool, now: float) -> None:
        """How a call ended."""
        self._trying = False
        if ok:
            self._open_until = 0.0
            self._failed_calls = 0
            return
        if self._spec.health is not None:
            self._failed_calls += 1
            self._record_failures(self._spec.health, self._failed_calls)
        breaker = self._spec.breaker
        if breaker is None:
            return
        failures = self._failures
        failures.append(now)
        many = len(failures) == breaker.failures and now - failures[0] <= breaker.window_s
        if many or self._open_until:
            if not self._open_until:
                log.warning("upstream-breaker-open", target=self._url, seconds=breaker.open_s)
            self._open_until = now + breaker.open_s
            failures.clear()

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
                log.info("upstream-target-up", target=self._url)

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
            reader, writer = await _open(target, context, endpoints)
            try:
                writer.write(
                    b"GET %b HTTP/1.1\r\nHost: %b\r\nUser-Agent: authgate-health\r\n"
                    b"Connection: close\r\n\r\n" % (health.path.encode("latin-1"), host)
                )
                head = await reader.readuntil(b"\r\n\r\n")
            finally:
                writer.transport.abort()
            return 200 <= ResponseHeadReader().read(head[:-4]).status < 300
    except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        return False
    except Malformed:
        return False


async def _open(
    target: UpstreamTarget, context: ssl.SSLContext | None, endpoints: Endpoints
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if target.socket_path is not None:
        return await asyncio.open_unix_connection(target.socket_path, limit=MAX_HEAD_BYTES)
    addresses = [target.host]
    if has_name(target):
        addresses = await endpoints.addresses(target.host, target.port)
    last_error: OSError | None = None
    for address in addresses:
        try:
            return await asyncio.open_connection(
                address,
                target.port,
                ssl=context,
                server_hostname=None if context is None else target.host,
                limit=MAX_HEAD_BYTES,
            )
        except OSError as error:
            last_error = error
    raise last_error or OSError("the name has no address")
