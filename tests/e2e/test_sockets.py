"""Sockets through two workers: opened with a token, closed by its sign-out."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import websockets
from websockets.sync.client import ClientConnection, connect
from websockets.sync.server import ServerConnection, serve

from tests.contract.running import Running, started
from tests.e2e.processes import edit, metric, until, workers

ROUTE = """\
  - id: sockets
    match: {{path: /ws}}
    policy: signed-in
    upstream: sockets
"""


def echo(socket: ServerConnection) -> None:
    for message in socket:
        socket.send(message)


@pytest.fixture
def sockets(tmp_path: Path) -> Iterator[Running]:
    with (
        serve(echo, "127.0.0.1", 0) as server,
        started(tmp_path / "g", "--workers", "2") as running,
    ):
        threading.Thread(target=server.serve_forever, daemon=True).start()
        port = server.socket.getsockname()[1]
        upstream = f'upstreams:\n  sockets: {{targets: ["http://127.0.0.1:{port}"]}}\n'
        edit(running, lambda text: text.replace("upstreams:\n", upstream, 1) + ROUTE.format())
        until(lambda: len(workers(running)) == 2, 20)
        until(lambda: running.call("GET", "/ws").status == 401, 10)
        yield running


@pytest.fixture
def clients() -> Iterator[ExitStack]:
    with ExitStack() as clients:
        yield clients


def opened(running: Running, clients: ExitStack, token: str) -> ClientConnection:
    bearer = {"Authorization": f"Bearer {token}"}
    return clients.enter_context(
        connect(f"ws://127.0.0.1:{running.port}/ws", additional_headers=bearer)
    )


def test_a_sign_out_closes_the_sockets_of_its_session_on_every_worker(
    sockets: Running, clients: ExitStack
) -> None:
    mine = sockets.sign_in("socket@example.com")["access_token"]
    other = sockets.sign_in("socket@example.com")["access_token"]
    held = [opened(sockets, clients, mine) for _ in range(20)]
    while 0.0 in metric(sockets, "authgate_sockets") and len(held) < 200:
        held.append(opened(sockets, clients, mine))  # until either worker has some
    kept = opened(sockets, clients, other)
    assert 0.0 not in metric(sockets, "authgate_sockets")
    assert sum(metric(sockets, "authgate_sockets")) == len(held) + 1
    assert sockets.call("POST", "/auth/logout", token=mine).status == 204
    acknowledged_at = time.monotonic()
    for socket in held:
        with pytest.raises(websockets.ConnectionClosedError) as closed:
            socket.recv(timeout=1.0)
        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1008, "token_revoked")
    assert time.monotonic() - acknowledged_at < 1.0
    kept.send("still")
    assert kept.recv(timeout=5.0) == "still"


def test_a_handshake_without_a_token_opens_nothing(sockets: Running) -> None:
    with pytest.raises(websockets.InvalidStatus) as refused:
        connect(f"ws://127.0.0.1:{sockets.port}/ws").__enter__()
    assert refused.value.response.status_code == 401


def test_a_socket_of_a_cookie_needs_proof_of_intent_and_ends_with_its_session(
    sockets: Running, clients: ExitStack
) -> None:
    sockets.sign_in("cookie@example.com")
    own = f"http://127.0.0.1:{sockets.port}"
    body = {
        "email": "cookie@example.com",
        "password": "correct horse 7 battery",
        "transport": "cookie",
    }
    signed = sockets.call("POST", "/auth/login", ("Origin", own), json_body=body)
    (line,) = [v for v in signed.all("set-cookie") if v.startswith("__Host-session=")]
    cookie = ("Cookie", line.split(";")[0])
    url = f"ws://127.0.0.1:{sockets.port}/ws"
    for origin in ("https://evil.example", "null", None):
        more = {} if origin is None else {"Origin": origin}
        with pytest.raises(websockets.InvalidStatus) as refused:
            connect(url, additional_headers=dict([cookie]) | more).__enter__()
        assert refused.value.response.status_code == 403
    socket = clients.enter_context(
        connect(url, additional_headers={"Origin": own, "Cookie": cookie[1]})
    )
    socket.send("meant")
    assert socket.recv(timeout=5.0) == "meant"
    out = sockets.call("POST", "/auth/logout", cookie, ("Origin", own))
    assert out.status == 204
    with pytest.raises(websockets.ConnectionClosedError) as closed:
        socket.recv(timeout=1.0)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1008
