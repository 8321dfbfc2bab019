"""Peers that say all that they have to say over TLS, end it in the next breath, and hang up."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from gateway.access.definitions import Tls, UpstreamTarget
from tests.certificates import Authority
from tests.edge.rig import HUNG_S, Rig, listen


def say(sock: ssl.SSLSocket, data: bytes) -> None:
    """And the end behind it: `close_notify`, for which no answer is waited, and a FIN."""
    sock.sendall(data)
    sock.setblocking(False)
    with suppress(ssl.SSLWantReadError):
        sock.unwrap()


class HastyUpstream:
    """Answers one request with these bytes; in a thread."""

    def __init__(self, authority: Authority, answer: bytes) -> None:
        self._answer = answer
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(*authority.issue("localhost"))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])

    def serve(self) -> None:
        with self._listener:
            self._listener.settimeout(HUNG_S)
            raw, _ = self._listener.accept()
        raw.settimeout(HUNG_S)
        with raw, self._context.wrap_socket(raw, server_side=True) as sock:
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += sock.recv(65_536)
            say(sock, self._answer)


@asynccontextmanager
async def answered_hastily(rig: Rig, folder: Path, answer: bytes) -> AsyncIterator[None]:
    """The route of `rig` leads to one that answers so; once it has hung up, this ends."""
    authority = Authority(folder)
    upstream = HastyUpstream(authority, answer)
    where = UpstreamTarget(
        f"https://localhost:{upstream.port}", "https", "localhost", upstream.port
    )
    rig.spec(targets=(where,), tls=Tls(str(authority.file)))
    served = asyncio.create_task(asyncio.to_thread(upstream.serve))
    yield
    await served


async def hasty_client(rig: Rig, folder: Path, hello: bytes, behind: bytes) -> bytes:
    """What came back to a client that said `hello`, heard a first answer, said the rest and left."""
    authority = Authority(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue("localhost"))
    port = await listen(rig.listener, context)
    trusting = ssl.create_default_context(cafile=authority.file)

    def call() -> bytes:
        raw = socket.create_connection(("127.0.0.1", port), timeout=HUNG_S)
        with raw, trusting.wrap_socket(raw, server_hostname="localhost") as sock:
            sock.sendall(hello)
            heard = sock.recv(65_536)
            say(sock, behind)
            return heard

    return await asyncio.to_thread(call)
