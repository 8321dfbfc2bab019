"""New TLS connections, each for one request: whole handshakes, or resumed ones.

    python -m bench.scenarios.clients.handshakes PORT TOKENS full|resumed SECONDS

Some processes take turns at one core, so that one may wait while another computes.  Each has an
address of its own, so that none runs out of ports.  A handshake that was not of the kind that was
asked for counts as broken, but for the first one of each process.
"""

from __future__ import annotations

import multiprocessing
import socket
import ssl
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path

from bench.load import tls_context
from bench.scenarios.clients import result

PROCESSES = 8


class Client:
    def __init__(self, number: int, port: int, tokens: list[str], *, resumes: bool) -> None:
        self._port = port
        self._address = f"127.0.1.{number + 1}"
        self._resumes = resumes
        self._context = tls_context()
        self._session: ssl.SSLSession | None = None
        self._tokens = tokens[number::PROCESSES]
        self.seconds: list[float] = []
        self.refused = self.broken = 0

    def once(self) -> None:
        token = self._tokens[len(self.seconds) % len(self._tokens)]
        request = (
            f"GET /api/users/1?fields=name,email&lang=en HTTP/1.1\r\n"
            f"Host: 127.0.0.1:{self._port}\r\nAccept: application/json\r\n"
            f"Authorization: Bearer {token}\r\nConnection: close\r\n\r\n"
        ).encode()
        began_at = time.perf_counter()
        with socket.create_connection(
            ("127.0.0.1", self._port), 10, source_address=(self._address, 0)
        ) as plain:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._context.wrap_socket(plain, session=self._session) as sock:
                sock.sendall(request)
                answer = b""
                while piece := sock.recv(65_536):
                    answer += piece
                # A first one has nothing to go by; OpenSSL gives tickets behind the handshake.
                if sock.session_reused != (self._session is not None):
                    self.broken += 1
                if self._resumes:
                    self._session = sock.session
        self.seconds.append(time.perf_counter() - began_at)
        if not answer.startswith(b"HTTP/1.1 200 "):
            self.refused += 1


def run(pipe: Connection, client: Client, seconds: float) -> None:
    client.once()
    client.seconds.clear()
    pipe.send(None)
    pipe.recv()
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            client.once()
        except OSError:
            client.broken += 1
    pipe.send((client.seconds, client.refused, client.broken))


def main(port: int, tokens: list[str], kind: str, seconds: float) -> None:
    context = multiprocessing.get_context("fork")
    pipes = []
    for number in range(PROCESSES):
        client = Client(number, port, tokens, resumes=kind == "resumed")
        ours, theirs = context.Pipe()
        context.Process(target=run, args=(theirs, client, seconds), daemon=True).start()
        theirs.close()
        pipes.append(ours)
    for pipe in pipes:
        pipe.recv()
    began_at = time.monotonic()
    for pipe in pipes:
        pipe.send(None)
    done = [pipe.recv() for pipe in pipes]
    took_s = time.monotonic() - began_at
    every = [second for seconds_, _, _ in done for second in seconds_]
    refused, broken = (sum(one[n] for one in done) for n in (1, 2))
    print(result(took_s, every, refused=refused, broken=broken))


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]).read_text().split(), sys.argv[3], float(sys.argv[4]))
