"""A session that ends at a real provider: every worker refuses its tokens before the provider has
read our answer."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import websockets
from websockets.sync.client import ClientConnection, connect
from websockets.sync.server import ServerConnection, serve

from tests.contract.running import Running, started
from tests.e2e.processes import until, workers
from tests.ports import free_port
from tests.providers import oidc_provider
from tests.providers.oidc_provider import OidcProvider, Setup, application

API = "https://api.example.com/"
REDIRECT = "https://shop.example.com/signed-in"
SHOP = "shop"
ROUTES = """\
version: 1
issuers:
  company:
    issuer: {issuer}
    audience: {api}
    email: claims.email
    backchannel_logout: true
    event_audience: {client}
upstreams:
  echo: {{{{targets: ["http://127.0.0.1:{{port}}"]}}}}
  sockets: {{{{targets: ["http://127.0.0.1:{sockets}"]}}}}
  ticks: {{{{targets: ["http://127.0.0.1:{ticks}"]}}}}
routes:
  - {{{{id: ticks, match: {{{{path: /ticks}}}}, issuers: [company], policy: signed-in, upstream: ticks}}}}
  - {{{{id: me, match: {{{{path: /me}}}}, issuers: [own, company], policy: signed-in, upstream: echo}}}}
  - {{{{id: ws, match: {{{{path: /ws}}}}, issuers: [company], policy: signed-in, upstream: sockets}}}}
"""


def socket_to(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=10)


def echo(connection: ServerConnection) -> None:
    for message in connection:
        connection.send(message)


class Ticks(BaseHTTPRequestHandler):
    """A stream of events that goes on for as long as somebody reads it."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        pause = threading.Event()
        while not pause.wait(0.05):
            self.wfile.write(b"9\r\ndata: 1\n\n\r\n")

    def log_message(self, *_: object) -> None: ...


class TicksServer(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Its reader has gone."""


@contextmanager
def ticking() -> Iterator[int]:
    server = TicksServer(("127.0.0.1", 0), Ticks)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()


@dataclass
class Site:
    gateway: Running
    provider: OidcProvider

    def signed_in(self, account: str) -> tuple[Any, dict[str, Any]]:
        visitor = self.provider.visitor()
        tokens = visitor.sign_in(SHOP, REDIRECT, account, resource=API)
        return visitor, tokens

    def call(self, tokens: dict[str, Any]) -> int:
        return self.gateway.call("GET", "/me", token=tokens["access_token"]).status

    def socket(self, tokens: dict[str, Any]) -> ClientConnection:
        fields = {"Authorization": f"Bearer {tokens['access_token']}"}
        return connect(f"ws://127.0.0.1:{self.gateway.port}/ws", additional_headers=fields)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder: Path = tmp_path_factory.mktemp("backchannel")
    port = free_port()
    told = f"http://127.0.0.1:{port}/auth/issuers/company/backchannel-logout"
    setup = Setup(
        clients=(application(SHOP, REDIRECT, backchannel_logout_uri=told),),
        resources={API: {"scope": "orders:read"}},
    )
    with (
        oidc_provider.started(folder / "provider", setup) as provider,
        serve(echo, "127.0.0.1", 0) as server,
        ticking() as ticks,
    ):
        threading.Thread(target=server.serve_forever, daemon=True).start()
        routes = ROUTES.format(
            issuer=provider.issuer,
            api=API,
            client=SHOP,
            sockets=server.socket.getsockname()[1],
            ticks=ticks,
        )
        own = {
            "GATEWAY_LISTEN": f"127.0.0.1:{port}",
            "GATEWAY_PUBLIC_URL": f"http://127.0.0.1:{port}",
        }
        with started(folder / "g", "--workers", "2", routes=routes, **own) as running:
            running.port = port
            until(lambda: len(workers(running)) == 2, 60)
            yield Site(running, provider)


def test_a_session_that_ends_at_the_provider_is_over_at_the_next_call(site: Site) -> None:
    visitor, tokens = site.signed_in("ada")
    _, others = site.signed_in("ada")
    assert [site.call(tokens) for _ in range(8)] == [200] * 8
    assert site.call(others) == 200
    visitor.sign_out(tokens["id_token"])
    assert [site.call(tokens) for _ in range(20)] == [401] * 20
    refused = site.gateway.call("GET", "/me", token=tokens["access_token"])
    assert refused.json["reason"] == "token_revoked"
    # The other session of the same person goes on.
    assert site.call(others) == 200
    assert site.provider.logouts()[-1] == f"{SHOP}: done"


def test_its_sockets_end_with_it(site: Site) -> None:
    visitor, tokens = site.signed_in("bea")
    _, others = site.signed_in("bea")
    with ExitStack() as opened:
        held = [opened.enter_context(site.socket(tokens)) for _ in range(10)]
        kept = opened.enter_context(site.socket(others))
        for one in (*held, kept):
            one.send("hello")
            assert one.recv(timeout=60) == "hello"
        visitor.sign_out(tokens["id_token"])
        for one in held:
            with pytest.raises(websockets.ConnectionClosedError) as closed:
                one.recv(timeout=60)
            assert closed.value.rcvd is not None
            assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1008, "token_revoked")
        kept.send("still")
        assert kept.recv(timeout=60) == "still"


def test_a_stream_ends_with_it(site: Site) -> None:
    visitor, tokens = site.signed_in("cyd")
    lines = ["GET /ticks HTTP/1.1", "Host: x", f"Authorization: Bearer {tokens['access_token']}"]
    with socket_to(site.gateway.port) as stream:
        stream.sendall("\r\n".join([*lines, "", ""]).encode())
        received = b""
        while received.count(b"data: 1") < 3:
            received += stream.recv(4096)
        assert received.startswith(b"HTTP/1.1 200")
        visitor.sign_out(tokens["id_token"])
        began, last = time.monotonic(), b""
        with suppress(ConnectionResetError):
            while piece := stream.recv(4096):
                last = (last + piece)[-64:]
                assert time.monotonic() - began < 60
    # It was cut: no last chunk says that this was all.
    assert not last.endswith(b"0\r\n\r\n")


def test_a_logout_token_of_the_provider_gives_no_access(site: Site) -> None:
    """Nor does an ID token: it names the client, and no API."""
    _, tokens = site.signed_in("eve")
    refused = site.gateway.call("GET", "/me", token=tokens["id_token"])
    assert (refused.status, refused.json["reason"]) == (401, "token_claims_invalid")
    for token in (tokens["id_token"], tokens["access_token"]):
        answer = site.gateway.call(
            "POST",
            "/auth/issuers/company/backchannel-logout",
            ("Content-Type", "application/x-www-form-urlencoded"),
            body=f"logout_token={token}".encode(),
        )
        assert (answer.status, answer.json["error"]) == (400, "invalid_request")
    assert site.call(tokens) == 200


def test_what_came_of_it_is_counted(site: Site) -> None:
    visitor, tokens = site.signed_in("joe")
    visitor.sign_out(tokens["id_token"])
    text = site.gateway.admin("/metrics").body.decode()
    assert 'authgate_issuer_reports_total{issuer="company",outcome="taken"}' in text


def test_an_operator_ends_what_the_provider_gave(site: Site) -> None:
    _, tokens = site.signed_in("kim")
    assert site.call(tokens) == 200
    done = site.gateway.confirmed("revoke", "user", "company:kim")
    assert (done.returncode, done.stdout.strip()) == (0, "revoked: company:kim")
    assert site.call(tokens) == 401
