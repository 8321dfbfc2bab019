"""A socket that a listener listens on: connections taken up one by one, TLS handshakes counted.

Law: nothing is accepted that the listener has no room for; who has to wait waits in the kernel's
queue.  A connection that the kernel has made for us is taken up before the socket is closed.
"""

from __future__ import annotations

import asyncio
import errno
import select
import socket
import ssl
from typing import Protocol

from gateway.client_networks import asking_for
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


class Admitting(Protocol):
    """The listener, as far as who accepts for it asks."""

    limits: ListenerLimits
    admission: Admission
    reader: PeerReader

    def make_room(self) -> bool:
        """Whether somebody idle has given way."""

    def stop_accepting(self, error: int = 0) -> None:
        """There is no room, or no means: `error` says which."""

    def new_connection(self, peer: Peer, network: str | None) -> Connection: ...

    def left(self, connection: Connection) -> None:
        """It takes no room any more; whoever tells it first, once."""


class ListeningSocket:
    """Bound already; `listen` lets the kernel connect whoever comes, `start` takes them up."""

    def __init__(
        self, listener: Admitting, bound: socket.socket, context: ssl.SSLContext | None
    ) -> None:
        bound.setblocking(False)
        self._listener = listener
        self._socket = bound
        self._context = context
        self._waiting = select.poll()
        """Whether somebody is in the queue: nobody gives way for no one."""
        self._waiting.register(bound, select.POLLIN)
        self._loop = asyncio.get_running_loop()
        self._handshakes: set[asyncio.Task[None]] = set()
        self._reading = False
        self._closed = False

    @property
    def handshaking(self) -> int:
        """Connections that are not the listener's yet."""
        return len(self._handshakes)

    def listen(self, backlog: int) -> None:
        self._socket.listen(backlog)

    def start(self) -> None:
        if not self._reading and not self._closed:
            self._reading = True
            self._loop.add_reader(self._socket.fileno(), self._accept)

    def pause(self) -> None:
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._socket.fileno())

    def refuse_new(self) -> bool:
        """Whether the kernel makes no new connection from now on; those under way it completes."""
        return not self._closed and refuse_new(self._socket)

    def close(self) -> None:
        """Takes up whoever the kernel has connected, and nobody after that."""
        if self._closed:
            return
        if self._reading:
            self._accept(EVERYBODY)
        self.pause()
        self._closed = True
        self._socket.close()

    def abandon(self) -> None:
        """Ends handshakes that were not completed."""
        for task in self._handshakes:
            task.cancel()

    def _accept(self, most: int = AT_ONCE) -> None:
        listener = self._listener
        for _ in range(most):
            if listener.admission.full:
                if not self._waiting.poll(0):
                    return
                if not listener.make_room():
                    listener.stop_accepting()
                    return
            try:
                sock, name = self._socket.accept()
            except (BlockingIOError, InterruptedError):
                return
            except ConnectionAbortedError:
                continue
            except OSError as error:
                if error.errno not in _NO_MEANS:
                    raise
                if not listener.make_room():
                    listener.stop_accepting(error.errno)
                    return
                continue
            self._begin(sock, name[0] if isinstance(name, tuple) else "")

    def _begin(self, sock: socket.socket, address: str) -> None:
        listener = self._listener
        peer = listener.reader.peer(address, https=self._context is not None)
        whose = network(peer)
        if not listener.admission.enter(whose):
            sock.close()
            return
        task = self._loop.create_task(self._connect(sock, listener.new_connection(peer, whose)))
        self._handshakes.add(task)
        task.add_done_callback(self._handshakes.discard)

    async def _connect(self, sock: socket.socket, connection: Connection) -> None:
        """A handshake has the time that a head has."""
        context, listener = self._context, self._listener
        asking_for.set("")  # whatever began to listen, or goes on, asked for itself
        try:
            await self._loop.connect_accepted_socket(
                lambda: connection,
                sock,
                ssl=context,
                ssl_handshake_timeout=None if context is None else listener.limits.head_s,
            )
        except OSError:
            # Reset, out of time, or no TLS: nothing to be said to anybody.
            sock.close()
            listener.left(connection)
        except BaseException:
            sock.close()
            listener.left(connection)
            raise
