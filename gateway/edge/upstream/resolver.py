"""Where the name of an upstream leads now.

Law: one name that resolves slowly is the trouble of that name alone.  Lookups run in threads of
their own, one at a time for a name, and never in the few that the event loop shares among all;
what a name was last known to lead to is kept, and asked for anew beside the traffic.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import socket
import threading
from collections.abc import Iterable
from time import monotonic
from typing import Protocol

import structlog

from gateway.access.definitions import UpstreamTarget

log = structlog.get_logger(__name__)

RESOLVE_EVERY_S = 5.0
"""How soon a busy upstream is left whose name leads elsewhere; and how long an answer is taken
for granted."""
PATIENCE_S = 0.5
"""How long a call waits for a newer answer than the last good one."""
LOOKUPS_AT_ONCE = 64
SILENT_S = 30.0
"""For so long an address that said nothing is tried after the others of its name."""

Name = tuple[str, int]


class Resolver(Protocol):
    async def addresses(self, host: str, port: int) -> list[str]:
        """In the order in which they are tried.  OSError when the name is not known."""


class SystemResolver:
    """As the machine resolves: `/etc/hosts`, DNS and whatever else it was told to ask.

    Each lookup has a thread of its own, at most LOOKUPS_AT_ONCE.  It cannot be stopped: whoever
    gives up waits no longer, and it ends when the machine's resolver gives up.
    """

    def __init__(self) -> None:
        self._under_way = 0

    async def addresses(self, host: str, port: int) -> list[str]:
        if self._under_way >= LOOKUPS_AT_ONCE:
            raise OSError(errno.EAGAIN, "too many names are being resolved")
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[list[str]] = loop.create_future()

        def deliver(result: list[str] | OSError) -> None:
            self._under_way -= 1
            if answer.done():
                return
            if isinstance(result, OSError):
                answer.set_exception(result)
            else:
                answer.set_result(result)

        def look_up() -> None:
            result: list[str] | OSError
            try:
                infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
                result = list(dict.fromkeys(str(address[0]) for *_, address in infos))
            except (OSError, UnicodeError) as error:
                result = error if isinstance(error, OSError) else OSError(str(error))
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(deliver, result)

        self._under_way += 1
        # A daemon: a name server that says nothing must not hold up the end of the process.
        threading.Thread(target=look_up, name="resolve", daemon=True).start()
        return await answer


class Endpoints:
    """The addresses of names, for every target of a worker: the last good ones, kept fresh."""

    def __init__(
        self,
        resolver: Resolver,
        *,
        fresh_s: float = RESOLVE_EVERY_S,
        patience_s: float = PATIENCE_S,
        silent_s: float = SILENT_S,
    ) -> None:
        self._resolver = resolver
        self._fresh_s = fresh_s
        self._patience_s = patience_s
        self._silent_s = silent_s
        self._known: dict[Name, tuple[list[str], float]] = {}
        """With when they were known, by the steady clock."""
        self._lookups: dict[Name, asyncio.Task[list[str]]] = {}
        self._silent: dict[Name, dict[str, float]] = {}
        """Addresses that said nothing, and until when that is remembered."""

    async def addresses(self, host: str, port: int) -> list[str]:
        """In the order in which they are tried: those that are known, or those of a lookup that
        answers within PATIENCE_S, or within whatever time the caller has where none are known.

        OSError when nothing is known of the name.
        """
        known = self._known.get((host, port))
        if known is None:
            return await self.looked_up(host, port)
        addresses, known_at = known
        if monotonic() - known_at >= self._fresh_s:
            await asyncio.wait((self._lookup((host, port)),), timeout=self._patience_s)
            addresses = self._known.get((host, port), known)[0]
        return self._answering_first((host, port), addresses) if self._silent else addresses

    async def looked_up(self, host: str, port: int) -> list[str]:
        """As they are now.  OSError when the name is not known."""
        # Shielded: whoever gives up must not take the answer away from the others.
        return await asyncio.shield(self._lookup((host, port)))

    def record_silent(self, host: str, port: int, addresses: Iterable[str]) -> None:
        """Whoever tried these waited in vain, while others of the name may answer."""
        silent = dict.fromkeys(addresses, monotonic() + self._silent_s)
        if silent:
            self._silent.setdefault((host, port), {}).update(silent)

    def keep(self, names: Iterable[Name]) -> None:
        """Forgets what is known of others."""
        kept = set(names)
        self._known = {name: known for name, known in self._known.items() if name in kept}
        self._silent = {name: silent for name, silent in self._silent.items() if name in kept}

    def close(self) -> None:
        for lookup in self._lookups.values():
            lookup.cancel()

    def _answering_first(self, name: Name, addresses: list[str]) -> list[str]:
        """In their order, but for those that were silent: the one that was longest ago first."""
        now = monotonic()
        until = {
            address: until
            for address, until in self._silent.pop(name, {}).items()
            if until > now and address in addresses
        }
        if not until:
            return addresses
        self._silent[name] = until
        return sorted(addresses, key=lambda address: until.get(address, 0.0))

    def _lookup(self, name: Name) -> asyncio.Task[list[str]]:
        lookup = self._lookups.get(name)
        if lookup is None:
            lookup = asyncio.create_task(self._resolve(name), name=f"resolve {name[0]}")
            self._lookups[name] = lookup
            lookup.add_done_callback(lambda ended: self._on_lookup_end(name, ended))
        return lookup

    async def _resolve(self, name: Name) -> list[str]:
        addresses = await self._resolver.addresses(*name)
        if not addresses:
            raise OSError("the name has no address")
        self._known[name] = addresses, monotonic()
        return addresses

    def _on_lookup_end(self, name: Name, lookup: asyncio.Task[list[str]]) -> None:
        del self._lookups[name]
        if not lookup.cancelled() and (error := lookup.exception()) is not None:
            log.debug("upstream-not-resolved", host=name[0], error=str(error))


def has_name(target: UpstreamTarget) -> bool:
    """Whether there is anything to resolve: no unix socket and no address."""
    if target.socket_path is not None:
        return False
    try:
        ipaddress.ip_address(target.host)
    except ValueError:
        return True
    return False
