"""One kept connection over which a bench asks for one thing after the other."""

from __future__ import annotations

import socket

_LENGTH = b"\r\ncontent-length:"


class KeptConnection:
    def __init__(self, port: int) -> None:
        self.port = port
        self._socket = socket.create_connection(("127.0.0.1", port), 60)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, request: bytes) -> int:
        """The status of the answer, which was read whole."""
        self.send(request)
        return self.answered()

    def send(self, request: bytes) -> None:
        self._socket.sendall(request)

    def answered(self) -> int:
        """The status of the next answer, which was read whole; nothing comes behind it."""
        answer = b""
        while (end := answer.find(b"\r\n\r\n")) < 0:
            answer += self._more(answer)
        head = answer[:end].lower() + b"\r\n"
        at = head.find(_LENGTH)
        length = 0 if at < 0 else int(head[at + len(_LENGTH) : head.find(b"\r\n", at + 2)])
        while len(answer) < end + 4 + length:
            answer += self._more(answer)
        return int(answer[9:12])

    def close(self) -> None:
        self._socket.close()

    def _more(self, answer: bytes) -> bytes:
        piece = self._socket.recv(65_536)
        if not piece:
            raise RuntimeError(f"closed after {answer[:200]!r}")
        return piece
