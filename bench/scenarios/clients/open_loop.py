"""Requests that begin when they are due, whatever became of those before: an open loop.

    python -m bench.scenarios.clients.open_loop PORT TOKENS RATE SECONDS

They are due at random (a Poisson process) at so many a second in the mean, over 64 kept
connections.  One that finds all of them busy waits, and its time runs from when it was due: no
latency is left out because a slow answer kept the next request from being sent (what is called
coordinated omission).
"""

from __future__ import annotations

import random
import select
import socket
import sys
import time
from collections import deque
from pathlib import Path

from bench.scenarios.clients import result

CONNECTIONS = 64
LATEST_S = 5.0
"""What has no answer so long after the end counts as broken."""

HEAD = (
    "GET /api/users/{number}?fields=name,email&lang=en HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
    "Connection: keep-alive\r\n"
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n"
    "Accept: application/json, text/plain, */*\r\nAccept-Language: en-GB,en;q=0.7,de;q=0.3\r\n"
    "Accept-Encoding: gzip, deflate, br, zstd\r\nReferer: http://127.0.0.1:{port}/app/orders\r\n"
    "Sec-Fetch-Dest: empty\r\nSec-Fetch-Mode: cors\r\nSec-Fetch-Site: same-origin\r\n"
    "Authorization: Bearer {token}\r\nX-Request-Id: bench-{number:010d}\r\n\r\n"
)


class Line:
    """One connection, and when the request that it carries was due."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), 10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.due_at = 0.0
        self.read = b""

    def ended(self) -> bool | None:
        """Whether the answer is whole; None where there will be none."""
        try:
            piece = self.socket.recv(65_536)
        except BlockingIOError:
            return False
        except OSError:
            return None
        if not piece:
            return None
        self.read += piece
        head, end, body = self.read.partition(b"\r\n\r\n")
        if not end:
            return False
        # The head is ours to know: each peer sends the length that the backend said.
        _, _, length = head.lower().partition(b"\r\ncontent-length:")
        return len(body) >= int(length.partition(b"\r\n")[0])


class OpenLoop:
    def __init__(self, port: int, tokens: list[str], rate: float) -> None:
        self._requests = [
            HEAD.format(number=number, port=port, token=token).encode()
            for number, token in enumerate(tokens)
        ]
        self._rate = rate
        self._lines = {
            line.socket.fileno(): line for line in (Line(port) for _ in range(CONNECTIONS))
        }
        self._idle = list(self._lines.values())
        self._waiting: deque[float] = deque()
        self._poll = select.epoll()
        for descriptor in self._lines:
            self._poll.register(descriptor, select.EPOLLIN)
        self._sent = 0
        self.seconds: list[float] = []
        self.refused = self.broken = 0

    def run(self, seconds: float) -> float:
        began_at = now = time.perf_counter()
        until, due_at = began_at + seconds, began_at + random.expovariate(self._rate)
        while now < until or self._waiting or len(self._idle) < len(self._lines):
            if now > until + LATEST_S:
                self.broken += len(self._waiting) + len(self._lines) - len(self._idle)
                break
            while due_at <= now and due_at < until:
                self._waiting.append(due_at)
                due_at += random.expovariate(self._rate)
            while self._waiting and self._idle:
                self._send(self._waiting.popleft())
            # select() waits by the microsecond, epoll by the millisecond.
            pause = max(0.0, min(due_at, until + LATEST_S) - time.perf_counter())
            if due_at >= until:
                pause = 0.01
            if select.select([self._poll], [], [], pause)[0]:
                self._receive()
            now = time.perf_counter()
        return time.perf_counter() - began_at

    def _send(self, due_at: float) -> None:
        line = self._idle.pop()
        line.due_at, line.read = due_at, b""
        line.socket.send(self._requests[self._sent % len(self._requests)])
        self._sent += 1

    def _receive(self) -> None:
        for descriptor, _ in self._poll.poll(0):
            line = self._lines[descriptor]
            ended = line.ended()
            if ended is False:
                continue
            if ended is None:
                self.broken += 1
                self._poll.unregister(descriptor)
                del self._lines[descriptor]
                continue
            self.seconds.append(time.perf_counter() - line.due_at)
            if not line.read.startswith(b"HTTP/1.1 200 "):
                self.refused += 1
            self._idle.append(line)


def main(port: int, tokens: list[str], rate: float, seconds: float) -> None:
    loop = OpenLoop(port, tokens, rate)
    took_s = loop.run(seconds)
    print(result(took_s, loop.seconds, refused=loop.refused, broken=loop.broken))


if __name__ == "__main__":
    words = sys.argv[1:]
    main(int(words[0]), Path(words[1]).read_text().split(), float(words[2]), float(words[3]))
