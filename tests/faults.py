"""A small proxy that breaks connections in the ways that networks do."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from enum import StrEnum


class Fault(StrEnum):
    NONE = "none"
    REFUSE = "refuse"
    """Nobody listens; what is open is reset."""
    RESET = "reset"
    """Connections are accepted and reset at the first byte."""
    HANG = "hang"
    """Bytes are swallowed; nothing comes back, nothing is closed."""
    GARBLE = "garble"
    """Answers have bytes flipped, at fixed distances."""
    CUT = "cut"
    """An answer ends in its middle, and the connection with it."""
    DELAY = "delay"
    """Answers come `delay_s` later."""


EVERY = [fault for fault in Fault if fault is not Fault.NONE]


class FaultProxy:
    """Listens on 127.0.0.1:`port` and passes everything on to `target`, unless told to fail."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._dropped: set[asyncio.StreamWriter] = set()
        self._serving: set[asyncio.Task[None]] = set()
        self._fault = Fault.NONE
        self._answered = 0
        self.lose_commit_of = b""
        """Where a client sends this, the answer to its COMMIT is swallowed, once: what it asked for
        is done, and it never learns of it."""
        self.delay_s = 0.2
        self.port = 0

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def set(self, fault: Fault) -> None:
        """From now on; connections that are open feel it at their next byte."""
        was, self._fault = self._fault, fault
        if fault in (Fault.REFUSE, Fault.RESET):
            self._reset_all()
        if fault is Fault.REFUSE and self._server:
            self._server.close()
            self._server = None
        elif was is Fault.REFUSE and self._server is None:
            await self.start()
        if was is Fault.HANG:
            # What was swallowed never comes: like a network that is back after a partition,
            # whose other end has given up.
            self._reset_all()

    def begin_reset(self) -> None:
        """What is open is reset in the next turns of this loop; new connections work."""
        self._reset_all()

    async def reset_idle(self) -> None:
        """What is open is reset once this returns; new connections work."""
        serving = set(self._serving)
        self.begin_reset()
        if serving:
            # A transport closes its socket in a later turn of the loop than the one that aborts it.
            await asyncio.wait(serving)

    def drop_silently(self) -> None:
        """What is open is swallowed from now on; new connections work."""
        self._dropped |= self._writers

    async def stop(self) -> None:
        self._reset_all()
        if self._server:
            self._server.close()
            self._server = None
        while self._serving:
            self._reset_all()
            await asyncio.wait(self._serving, timeout=0.1)

    def _reset_all(self) -> None:
        for writer in list(self._writers):
            _reset(writer)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        self._writers.add(writer)
        try:
            there, back = await asyncio.open_connection(*self._target)
        except OSError:
            writer.transport.abort()
            self._writers.discard(writer)
            return
        self._writers.add(back)
        try:
            await asyncio.gather(
                self._pass(reader, back, answers=False, client=writer),
                self._pass(there, writer, answers=True, client=writer),
            )
        finally:
            for end in (writer, back):
                self._writers.discard(end)
                self._dropped.discard(end)
                end.transport.abort()

    async def _pass(
        self,
        source: asyncio.StreamReader,
        sink: asyncio.StreamWriter,
        *,
        answers: bool,
        client: asyncio.StreamWriter,
    ) -> None:
        doomed = False
        with suppress(OSError):
            while piece := await source.read(65536):
                if self._fault is Fault.RESET:
                    break
                if self._fault is Fault.HANG or sink in self._dropped:
                    continue
                if not answers and self.lose_commit_of:
                    doomed = doomed or self.lose_commit_of in piece
                    if doomed and b"COMMIT" in piece:
                        self.lose_commit_of = b""
                        self._dropped.add(client)
                if answers:
                    if self._fault is Fault.DELAY:
                        await asyncio.sleep(self.delay_s)
                    if self._fault is Fault.GARBLE:
                        piece = self._garbled(piece)
                    if self._fault is Fault.CUT:
                        sink.write(piece[: len(piece) // 2])
                        break
                sink.write(piece)
                await sink.drain()
        _reset(sink) if self._fault is Fault.RESET else sink.transport.abort()

    def _garbled(self, piece: bytes) -> bytes:
        spoiled = bytearray(piece)
        for at in range(self._answered % 7, len(spoiled), 7):
            spoiled[at] ^= 0x11
        self._answered += 1
        return bytes(spoiled)


def _reset(writer: asyncio.StreamWriter) -> None:
    """The other end reads ECONNRESET, also while it waits for nothing: not an end of file."""
    place = writer.get_extra_info("socket")
    if place is not None:
        with suppress(OSError):
            place.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@asynccontextmanager
async def proxied(port: int) -> AsyncIterator[FaultProxy]:
    """A proxy before a server of this machine."""
    proxy = FaultProxy(("127.0.0.1", port))
    await proxy.start()
    try:
        yield proxy
    finally:
        await proxy.stop()
