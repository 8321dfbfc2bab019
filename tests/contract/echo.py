"""A backend that says what it received."""

from __future__ import annotations

import json
import socketserver
from typing import Any


class _Echo(socketserver.StreamRequestHandler):
    """Answers each request with what came, as JSON; keeps the connection."""

    server: Echo

    def handle(self) -> None:
        while (line := self.rfile.readline()) not in (b"", b"\r\n"):
            method, target, _ = line.decode("latin-1").split(" ")
            fields = []
            while (line := self.rfile.readline()) not in (b"\r\n", b""):
                name, _, value = line.decode("latin-1").partition(":")
                fields.append([name, value.strip()])
            lower = {name.lower(): value for name, value in fields}
            body = b""
            if lower.get("transfer-encoding", "").lower() == "chunked":
                while size := int(self.rfile.readline() or b"0", 16):
                    body += self.rfile.read(size)
                    self.rfile.readline()
                if self.rfile.readline() != b"\r\n":
                    return  # cut off: a request that never was one
            elif "content-length" in lower:
                body = self.rfile.read(int(lower["content-length"]))
            seen = {
                "method": method,
                "target": target,
                "fields": fields,
                "body": body.decode("latin-1"),
            }
            self.server.seen.append(seen)
            text = json.dumps(seen).encode()
            head = (
                f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-Upstream: echo\r\n"
                f"Set-Cookie: __Host-session=stolen; Path=/\r\nSet-Cookie: theirs=1\r\n"
                f"Content-Length: {len(text)}\r\n\r\n"
            ).encode()
            self.wfile.write(head + (b"" if method == "HEAD" else text))


class Echo(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Echo)
        self.seen: list[dict[str, Any]] = []
