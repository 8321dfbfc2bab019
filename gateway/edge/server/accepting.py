"""A listening socket of a door: connections taken up one by one, TLS handshakes counted.

Law: nothing is accepted that the door has no room for; who has to wait waits in the kernel's
queue.  A connection that the kernel has made for us is taken up before the socket is closed.
"""

from __future__ import annotations

import asyncio
import errno
import select
import socket
import ssl
from typing import Protocol

from gateway.edge.server.admission import Admission, network
from gateway.edge.server.connection import Connection
from gateway.edge.server.limits import ListenerLimits
from gateway.edge.server.peer import Peer, PeerReader
from gateway.edge.server.tcp import refuse_new

AT_ONCE = 64
"""Connections that one turn of the loop takes up: calls have their turn in between."""
EVERYBODY = 1 << 16
"""More than any queue of the kernel holds."""
_NO_MEANS = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))


class Accepting(Protocol):
    """The listener, as far as who accepts for it asks."""

    limits: ListenerLimits
    admission: Admission
    reader: PeerReader

    def make_room(self) -> bool:
        """Whether somebody idle has given way."""

    def stop_accepting(self, error: int = 0) -> None:
        """There is no room, or no means: `error` says which."""

    def new_connection(self, peer: Peer, network: str | None) -> Connection: ...


class Acceptor:
    """Meets what aiohttp asks of a `Site`'s server: `sockets` and `close`."""

    def __init__(
        self, door: Accepting, listening: socket.socket, context: ssl.SSLContext | None
    ) -> None:
        listening.setblocking(False)
        self.sockets = (listening,)
        self._door = door
        self._listening = listening
        self._context = context
        self._waiting = select.poll()
        """Whether somebody is in the queue: nobody gives way for no one."""
        self._waiting.register(listening, select.POLLIN)
        self._loop = asyncio.get_running_loop()
        self._under_way: set[asyncio.Task[None]] = set()
        self._reading = False
        self._closed = False

    @property
    def handshaking(self) -> int:
        """Connections that are not the door's yet."""
        return len(self._under_way)

    def start(self) -> None:
        if not self._reading and not self._closed:
            self._reading = True
            self._loop.add_reader(self._listening.fileno(), self._take_up)

    def pause(self) -> None:
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._listening.fileno())

    def refuse_new(self) -> bool:
        """Whether the kernel makes no new connection from now on; those under way it completes."""
        return not self._closed and refuse_new(self._listening)

    def close(self) -> None:
        """Takes up whoever the kernel has connected, and nobody after that."""
        if self._closed:
            return
        if self._reading:
            self._take_up(EVERYBODY)
        self.pause()
        self._closed = True
        self._listening.close()

    def abandon(self) -> None:
        """Ends handshakes that were not completed."""
        for task in self._under_way:
            task.cancel()

    def _take_up(self, most: int = AT_ONCE) -> None:
        door = self._door
        for _ in range(most):
            if door.admission.full:
                if not self._waiting.poll(0):
                    return
                if not door.make_room():
                    door.stop_accepting()
                    return
            try:
                sock, name = self._listening.accept()
            except (BlockingIOError, InterruptedError):
                return
            except ConnectionAbortedError:
                continue
            except OSError as error:
                if error.errno not in _NO_MEANS:
                    raise
                if not door.make_room():
                    door.stop_accepting(error.errno)
                    return
                continue
            self._begin(sock, name[0] if isinstance(name, tuple) else "")

    def _begin(self, sock: socket.socket, address: str) -> None:
        door = self._door
        peer = door.reader.peer(address, https=self._context is not None)
        whose = network(peer)
        if not door.admission.enter(whose):
            sock.close()
            return
        task = self._loop.create_task(self._connect(sock, door.new_connection(peer, whose)))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _connect(self, sock: socket.socket, connection: Connection) -> None:
        """A handshake has the time that a head has."""
        context = self._context
        try:
            await self._loop.connect_accepted_socket(
                lambda: connection,
                sock,
                ssl=context,
                ssl_handshake_timeout=None if context is None else self._door.limits.head_s,
            )
        except OSError:
            # Reset, out of time, or no TLS: nothing to be said to anybody.
            sock.close()
            connection.left()
        except BaseException:
            sock.close()
            connection.left()
            raise
