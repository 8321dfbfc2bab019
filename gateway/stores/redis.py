"""Redis or Valkey through redis-py: one client, one reconnect policy, every call bounded.

- A call answers within a second or is StoreUnavailable.  Whatever the library stumbles over
  is that: no exception of another kind leaves this file.
- A connection that turns out to be dead before anything was sent is thrown away, and the call
  is tried on another.  One that dies later is tried once more where a repeat changes nothing
  (`again`), and a time-out never.
- A caller that waits for one of our own connections, not for the server, gets StoreBusy.  What
  the worker itself lives by (its lease, revocations) has connections of its own.
- While the server is unavailable, one call at a time tries it (after 50 ms, then 100 …
  1,000 ms); the others are refused at once, so that nobody queues behind a dead server.
- A connection whose call was cancelled is closed, never used again: its answer may still
  be under way, and would be read by the next caller.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import resources
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import redis.asyncio as aioredis
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, ReadOnlyError, RedisError

from gateway.stores import causes
from gateway.stores.connection_slots import ConnectionSlots
from gateway.stores.protocols import StoreBusy, StoreUnavailable
from gateway.stores.translation import Translated, forget_frames

TIMEOUT_S = 1.0
CONNECTIONS = 16
URGENT_CONNECTIONS = 8
"""Beside those, for `replicated`."""
_MOST_CONNECTIONS = CONNECTIONS + URGENT_CONNECTIONS + 8
REPLICATION_TIMEOUT_MS = 300
PREFIX = "{authgate}:"

_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 1.0


@dataclass(frozen=True, slots=True)
class Script:
    """Lua that runs on the server in one step."""

    text: str
    sha: str
    name: str = ""

    @staticmethod
    def shipped(*names: str) -> Script:
        """The files of `gateway/stores/scripts`, one after the other."""
        folder = resources.files("gateway.stores").joinpath("scripts")
        text = "\n".join(folder.joinpath(f"{name}.lua").read_text("utf-8") for name in names)
        sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
        return Script(text, sha, names[-1])


class RedisStore:
    """Connections to one server, or to whichever Sentinel names the master now.

    `durable`: an answered write survives the server's own kill -9 (the embedded Valkey).
    `replicas`: how many must have a write of `replicated` before it counts (Sentinel: 1).
    """

    def __init__(
        self,
        client: aioredis.Redis,
        *,
        prefix: str = PREFIX,
        durable: bool = False,
        replicas: int = 0,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self._client = client
        self._timeout_s = timeout_s
        self._slots = ConnectionSlots("redis", CONNECTIONS)
        self._urgent_slots = ConnectionSlots("redis", URGENT_CONNECTIONS)
        self._failures = 0
        self._probe_at = 0.0
        self._probing = False
        self._why = ""
        """Why the last call failed; those that are refused at once get the same cause."""
        self.prefix = prefix
        self.durable = durable
        self.replicas = replicas

    async def call(self, *words: str | int | float) -> Any:
        """One command, of a kind that changes nothing when it is repeated."""
        return await self._bounded(lambda: self._execute(*words))

    async def time(self) -> float:
        """Seconds since the epoch by the server's clock, read when it is asked."""
        answer = await self.call("TIME")
        try:
            seconds, microseconds = answer
            return int(seconds) + int(microseconds) / 1e6
        except (TypeError, ValueError) as error:
            raise StoreUnavailable("redis", "an answer that cannot be read") from error

    async def script(self, script: Script, keys: Sequence[str], words: Sequence[Any]) -> Any:
        """Keys are given without the prefix.  It runs twice for one call where its connection
        ends before it has answered."""
        return await self._bounded(lambda: self._run(script, keys, words))

    async def replicated(self, script: Script, keys: Sequence[str], words: Sequence[Any]) -> Any:
        """As `script`; the answer counts only once enough replicas have what was written."""
        if not self.replicas:
            return await self._bounded(lambda: self._run(script, keys, words), urgent=True)
        return await self._bounded(lambda: self._run_and_wait(script, keys, words), urgent=True)

    async def wait(self, *words: str | int | float, wait_s: float) -> Any:
        """A command that blocks on the server for up to `wait_s`."""
        with _TRANSLATED:
            async with asyncio.timeout(wait_s + self._timeout_s):
                return await self._tried(lambda: self._execute(*words))

    async def close(self) -> None:
        await self._client.aclose()

    @property
    def client(self) -> aioredis.Redis:
        """For callers that bound their calls themselves."""
        return self._client

    @property
    def is_unavailable(self) -> bool:
        """Whether the last call failed for want of the server."""
        return self._failures > 0

    async def _bounded(self, work: Callable[[], Awaitable[Any]], *, urgent: bool = False) -> Any:
        probes = self._enter(urgent)
        try:
            async with (self._urgent_slots if urgent else self._slots).slot():
                if not probes and not urgent and self._failures:
                    # It became unavailable while we waited for our slot.
                    raise _KnownUnavailable("redis", self._why)
                with _TRANSLATED:
                    async with asyncio.timeout(self._timeout_s):
                        answer = await self._tried(work)
        except (_KnownUnavailable, StoreBusy):
            raise
        except StoreUnavailable as error:
            self._record(failed=not isinstance(error, _NotReplicated))
            self._why = error.detail
            if isinstance(error.__cause__, ReadOnlyError):
                await self._disconnect_idle()
            raise
        finally:
            if probes:
                self._probing = False
        self._record(failed=False)
        return answer

    async def _tried(self, work: Callable[[], Awaitable[Any]]) -> Any:
        was_reset = False
        for _ in range(_MOST_CONNECTIONS):
            try:
                return await work()
            except RuntimeError:
                # uvloop: the connection was reset while it rested, and nothing was sent.  It is
                # closed now; each further try meets another one, or makes one.
                continue
            except RedisConnectionError as error:
                never_sent = _never_sent(error)
                if was_reset and not never_sent:
                    raise
                forget_frames(error)  # which the connection keeps
                if never_sent:
                    continue
                was_reset = True
                # The idle ones were reset with it: the second try needs a new one.
                await self._disconnect_idle()
        return await work()

    async def _disconnect_idle(self) -> None:
        """Closes the idle connections: they are dead, or the server was demoted and the name may
        lead to its successor by now."""
        with suppress(Exception):  # a connection that cannot be closed well is closed all the same
            await self._client.connection_pool.disconnect(inuse_connections=False)

    async def _execute(self, *words: Any) -> Any:
        return await self._client.execute_command(*words)  # type: ignore[no-untyped-call]

    async def _run(self, script: Script, keys: Sequence[str], words: Sequence[Any]) -> Any:
        named = [self.prefix + key for key in keys]
        try:
            return await self._execute("EVALSHA", script.sha, len(named), *named, *words)
        except NoScriptError:
            return await self._execute("EVAL", script.text, len(named), *named, *words)

    async def _run_and_wait(self, script: Script, keys: Sequence[str], words: Sequence[Any]) -> Any:
        named = [self.prefix + key for key in keys]
        # WAIT speaks of the writes of its own connection: a pipeline keeps to one.
        pipeline = self._client.pipeline(transaction=False)
        pipeline.execute_command("EVAL", script.text, len(named), *named, *words)
        pipeline.execute_command("WAIT", self.replicas, REPLICATION_TIMEOUT_MS)
        answer, reached = await pipeline.execute()
        if not isinstance(reached, int) or reached < self.replicas:
            raise _NotReplicated("redis", "written, but not by enough replicas")
        return answer

    def _enter(self, urgent: bool) -> bool:
        """Whether this call probes a server that was unavailable; raises when another call does,
        or it is too early."""
        if not self._failures or urgent:
            return False
        if self._probing or asyncio.get_running_loop().time() < self._probe_at:
            raise _KnownUnavailable("redis", self._why)
        self._probing = True
        return True

    def _record(self, *, failed: bool) -> None:
        if not failed:
            self._failures = 0
            return
        pause_s = min(_FIRST_PAUSE_S * 2 ** min(self._failures, 10), _LONGEST_PAUSE_S)
        self._failures += 1
        self._probe_at = asyncio.get_running_loop().time() + pause_s


def _never_sent(error: RedisConnectionError) -> bool:
    """The event loop had closed the connection already and dropped what was written to it: its
    stream says so with a ConnectionResetError that has no error number of the kernel's."""
    cause = error.__cause__
    return isinstance(cause, ConnectionResetError) and cause.errno is None


class _KnownUnavailable(StoreUnavailable):
    """The server was known to be unavailable, and was not asked."""


class _NotReplicated(StoreUnavailable):
    """The server is there; its replicas are not."""


def _unavailable(error: Exception) -> StoreUnavailable | None:
    """What a call that failed so is told; None where it says so itself."""
    if isinstance(error, StoreUnavailable):
        return None
    if isinstance(error, TimeoutError):
        return StoreUnavailable("redis", causes.NO_ANSWER)
    if isinstance(error, (RedisError, OSError)):
        return StoreUnavailable("redis", causes.of_redis(error))
    # Bytes that no server of ours sends, and whatever the library makes of them.
    return StoreUnavailable("redis", f"an answer that cannot be read ({type(error).__name__})")


_TRANSLATED = Translated(_unavailable)


def open_redis(
    url: str,
    *,
    durable: bool = False,
    prefix: str = PREFIX,
    store: type[RedisStore] = RedisStore,
) -> RedisStore:
    """The server that the URL names; ValueError, without the password, when it names none.

    `redis://[user:password@]host[:port][/db]`, `rediss://…`, `unix:///path[?db=0]`, or
    `redis+sentinel://[user:password@]host[:port][,host[:port]…]/service[?replicas=1&db=0&
    tls=true&sentinel_username=…&sentinel_password=…]`.  Nothing is connected here.
    """
    scheme = urlsplit(url).scheme
    if scheme == "redis+sentinel":
        return _open_sentinel(url, prefix, store)
    if scheme not in ("redis", "rediss", "unix"):
        raise ValueError(
            "a Redis URL starts with redis://, rediss://, unix:// or redis+sentinel://"
        )
    try:
        bounds = _bounds()
        if scheme == "unix":
            # redis-py refuses it there: the kernel tells at once when the other end is gone.
            del bounds["socket_keepalive"]
        client = aioredis.Redis.from_url(url, **bounds)
    except (ValueError, RedisError):
        raise ValueError(f"a {scheme}:// URL that cannot be read") from None
    return store(client, prefix=prefix, durable=durable)


def _open_sentinel(url: str, prefix: str, store: type[RedisStore]) -> RedisStore:
    parts = urlsplit(url)
    login, _, hosts = parts.netloc.rpartition("@")
    user, _, password = login.partition(":")
    options = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    service = unquote(parts.path.strip("/"))
    sentinels: list[tuple[str, int]] = []
    for host in hosts.split(","):
        name, _, port = (
            host.rpartition(":") if host.rfind(":") > host.rfind("]") else (host, "", "")
        )
        sentinels.append((name.strip("[]"), int(port) if port.isdigit() else 26379))
    if not service or not all(name for name, _ in sentinels):
        raise ValueError("a Sentinel URL is redis+sentinel://host:port,host:port/service")
    watcher = Sentinel(  # type: ignore[no-untyped-call]
        sentinels,
        sentinel_kwargs={
            "username": options.get("sentinel_username"),
            "password": options.get("sentinel_password"),
            **_bounds(),
        },
        username=unquote(user) or None,
        password=unquote(password) or None,
        db=int(options.get("db", "0")),
        ssl=options.get("tls") == "true",
        **_bounds(),
    )
    client = watcher.master_for(service, check_connection=True)
    return store(client, prefix=prefix, replicas=int(options.get("replicas", "1")))


def _bounds() -> dict[str, Any]:
    return {
        "socket_timeout": TIMEOUT_S,
        "socket_connect_timeout": TIMEOUT_S / 2,
        "socket_keepalive": True,
        "decode_responses": True,
        "protocol": 2,
        "max_connections": _MOST_CONNECTIONS,
        # Whether a call may be tried again is known here, not there.
        "retry": Retry(NoBackoff(), 0, ()),
        "retry_on_error": [],
        "driver_info": None,
    }
