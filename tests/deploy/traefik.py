"""What Traefik's documentation says of `forwardAuth`, as a small proxy: no registry that the tests
use carries Traefik itself.

- The call is told by X-Forwarded-{Method,Proto,Host,Uri,For} on a GET that carries the client's
  other fields; with `trustForwardHeader: false` the client's own of those that Traefik writes are not
  passed, and any other is (`pkg/middlewares/forwardedheaders` of 3.3).
- A 2xx lets the call pass: the fields named in `authResponseHeaders`, and those that match
  `authResponseHeadersRegex`, are taken from the request and set as the answer has them.
- With `forwardBody` the body is read, up to `maxBodySize` (else 401), and sent with the question.
- Of the routers that take a call that with the higher priority is asked.
- Any other answer is the client's, whole; but its `Location` is read as one of the authentication
  server's, and names that server to the client, unless `preserveLocationHeader` is set.
"""

from __future__ import annotations

import http.client
import re
import socketserver
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import yaml

Fields = list[tuple[str, str]]
_HOP_BY_HOP = {
    "connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding",
    "upgrade", "content-length",
}  # fmt: skip

_TRAEFIKS = {
    *(f"x-forwarded-{name}" for name in ("for", "host", "port", "proto", "server", "uri")),
    "x-forwarded-method", "x-forwarded-prefix", "x-forwarded-tls-client-cert",
    "x-forwarded-tls-client-cert-info", "x-real-ip",
}  # fmt: skip


class ForwardAuthProxy(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, port: int, settings: dict[str, Any]) -> None:
        super().__init__(("127.0.0.1", port), _Connection)
        http = settings["http"]
        middleware = http["middlewares"]["authgate"]["forwardAuth"]
        shown = http["middlewares"]["authgate-bodiless"]["forwardAuth"]
        assert middleware["trustForwardHeader"] is False
        assert http["routers"]["shop"]["middlewares"] == ["authgate"]
        bodiless = http["routers"]["shop-bodiless"]
        assert bodiless["middlewares"] == ["authgate-bodiless"]
        assert http["routers"]["own"]["priority"] > bodiless["priority"]
        assert bodiless["priority"] > http["routers"]["shop"]["priority"]
        self.bodiless = re.findall(r"Method\(`([A-Z]+)`\)", bodiless["rule"])
        assert shown == {**middleware, "forwardBody": True, "maxBodySize": shown["maxBodySize"]}
        self.max_body_size = shown["maxBodySize"]
        assert "middlewares" not in http["routers"]["own"]
        self.address = urlsplit(middleware["address"])
        self.named = {name.lower() for name in middleware["authResponseHeaders"]}
        self.pattern = re.compile(middleware["authResponseHeadersRegex"])
        self.preserves_location = middleware.get("preserveLocationHeader", False)
        self.own = re.findall(r"Path\(`([^`]+)`\)", http["routers"]["own"]["rule"])
        self.own_below = re.findall(r"PathPrefix\(`([^`]+)`\)", http["routers"]["own"]["rule"])
        services = http["services"]
        self.authgate = urlsplit(services["authgate"]["loadBalancer"]["servers"][0]["url"])
        self.shop = urlsplit(services["shop"]["loadBalancer"]["servers"][0]["url"])

    @classmethod
    def from_example(
        cls, filled: Callable[[str], str], folder: Path, port: int
    ) -> ForwardAuthProxy:
        static = yaml.safe_load(filled((folder / "traefik.yaml").read_text()))
        assert static["entryPoints"]["web"] == {"address": f"127.0.0.1:{port}"}
        return cls(port, yaml.safe_load(filled((folder / "dynamic.yaml").read_text())))

    def __enter__(self) -> ForwardAuthProxy:
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *args: object) -> None:
        self.shutdown()
        self.server_close()

    def is_own(self, path: str) -> bool:
        return path in self.own or any(path.startswith(prefix) for prefix in self.own_below)

    def handed_on(self, name: str) -> bool:
        return name.lower() in self.named or bool(self.pattern.search(name))


class _Connection(socketserver.StreamRequestHandler):
    server: ForwardAuthProxy

    def handle(self) -> None:
        line = self.rfile.readline().decode("latin-1").strip()
        if not line:
            return
        method, target, _ = line.split(" ", 2)
        fields: Fields = []
        while (raw := self.rfile.readline()) not in (b"\r\n", b""):
            name, _, value = raw.decode("latin-1").partition(":")
            fields.append((name, value.strip()))
        lower = {name.lower(): value for name, value in fields}
        if lower.get("transfer-encoding") == "chunked":
            body = self._chunks()
        else:
            body = self.rfile.read(int(lower.get("content-length", 0)))
        host = lower.get("host", "")
        fields = [
            (name, value)
            for name, value in fields
            if name.lower() not in _HOP_BY_HOP
            and name.lower() != "host"
            and name.lower() not in _TRAEFIKS
        ]
        forwarded = [
            ("X-Forwarded-Proto", "http"),
            ("X-Forwarded-Host", host),
            ("X-Forwarded-For", self.client_address[0]),
        ]
        path = target.partition("?")[0]
        if self.server.is_own(path):
            sent = [("Host", host), *fields, *forwarded]
            self._relay(self._asked(self.server.authgate, method, target, sent, body))
            return
        question = [
            ("Host", self.server.address.netloc),
            *fields,
            ("X-Forwarded-Method", method),
            ("X-Forwarded-Uri", target),
            *forwarded,
        ]
        address = self.server.address
        shown = body if method in self.server.bodiless else b""
        if len(shown) > self.server.max_body_size:
            self._relay((401, [], b""))
            return
        status, said, text = self._asked(address, "GET", address.path, question, shown)
        if not 200 <= status < 300:
            if not self.server.preserves_location:
                said = [
                    (
                        name,
                        urljoin(address.geturl(), value) if name.lower() == "location" else value,
                    )
                    for name, value in said
                ]
            self._relay((status, said, text))
            return
        fields = [pair for pair in fields if not self.server.handed_on(pair[0])]
        fields += [pair for pair in said if self.server.handed_on(pair[0])]
        sent = [("Host", host), *fields, *forwarded]
        self._relay(self._asked(self.server.shop, method, target, sent, body))

    def _chunks(self) -> bytes:
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _asked(
        self, url: Any, method: str, target: str, fields: Fields, body: bytes
    ) -> tuple[int, Fields, bytes]:
        connection = http.client.HTTPConnection(url.hostname, url.port, timeout=10)
        try:
            connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
            for name, value in fields:
                connection.putheader(name, value)
            if body or method in ("POST", "PUT"):
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body or None)
            answer = connection.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            connection.close()

    def _relay(self, answer: tuple[int, Fields, bytes]) -> None:
        status, fields, body = answer
        kept = [f"{name}: {value}" for name, value in fields if name.lower() not in _HOP_BY_HOP]
        lines = [f"HTTP/1.1 {status} said", *kept, f"Content-Length: {len(body)}"]
        head = "\r\n".join([*lines, "Connection: close", "", ""])
        self.wfile.write(head.encode("latin-1") + body)
