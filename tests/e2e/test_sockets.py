"""Sockets through two workers: opened with a token, closed by its sign-out."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
import websockets
from websockets.sync.client import ClientConnection, connect
from websockets.sync.server import ServerConnection, serve

from tests.contract.running import Running, started
from tests.e2e.processes import edit, metric, until, workers

pytestmark = pytest.mark.slow

ROUTE = """\
  - id: sockets
    match: {{path: /ws}}
    policy: signed-in
    upstream: sockets
  - id: room
    match: {{path: /room}}
    policy: room
    action: room:join
    upstream: sockets
    on_change: reevaluate
    websocket: {{max_per_user: 3}}
"""
ROOM = """\
version: 1
policy: room
rules:
  - {id: members, allow: ["room:*"], when: "'member' in user.roles"}
  - {id: banned, deny: ["*"], when: "'banned' in user.roles", reason: thrown_out}
"""
READ_AGAIN_S = 2
"""What is read of the account of a cookie is good for a tenth of the idle time of a session."""


def echo(socket: ServerConnection) -> None:
    for message in socket:
        socket.send(message)


@pytest.fixture(scope="module")
def sockets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("sockets") / "g"
    idle = {"GATEWAY_REFRESH_IDLE_S": str(READ_AGAIN_S * 10), "GATEWAY_ACCESS_TTL_S": "10"}
    with (
        serve(echo, "127.0.0.1", 0) as server,
        started(folder, "--workers", "2", **idle) as running,
    ):
        threading.Thread(target=server.serve_forever, daemon=True).start()
        port = server.socket.getsockname()[1]
        upstream = f'upstreams:\n  sockets: {{targets: ["http://127.0.0.1:{port}"]}}\n'
        (folder / "policies" / "room.yaml").write_text(ROOM)
        edit(running, lambda text: text.replace("upstreams:\n", upstream, 1) + ROUTE.format())
        until(lambda: len(workers(running)) == 2, 20)
        until(lambda: running.call("GET", "/ws").status == 401, 10)
        yield running


@pytest.fixture
def clients() -> Iterator[ExitStack]:
    with ExitStack() as clients:
        yield clients


def opened(
    running: Running, clients: ExitStack, token: str = "", path: str = "/ws", **fields: str
) -> ClientConnection:
    fields = {"Authorization": f"Bearer {token}"} if token else fields
    return clients.enter_context(
        connect(f"ws://127.0.0.1:{running.port}{path}", additional_headers=fields)
    )


def cookie_of(running: Running, email: str) -> str:
    running.sign_in(email)
    body = {"email": email, "password": "correct horse 7 battery", "transport": "cookie"}
    own = f"http://127.0.0.1:{running.port}"
    signed = running.call("POST", "/auth/login", ("Origin", own), json_body=body)
    (line,) = [v for v in signed.all("set-cookie") if v.startswith("__Host-session=")]
    return line.split(";")[0]


def goes_on(socket: ClientConnection) -> None:
    socket.send("still")
    assert socket.recv(timeout=5.0) == "still"


def ended(socket: ClientConnection, within_s: float) -> tuple[int, str]:
    with pytest.raises(websockets.ConnectionClosedError) as closed:
        socket.recv(timeout=within_s)
    assert closed.value.rcvd is not None
    return closed.value.rcvd.code, closed.value.rcvd.reason


def test_a_sign_out_closes_the_sockets_of_its_session_on_every_worker(
    sockets: Running, clients: ExitStack
) -> None:
    mine = sockets.sign_in("socket@example.com")["access_token"]
    other = sockets.sign_in("socket@example.com")["access_token"]
    held = [opened(sockets, clients, mine) for _ in range(20)]
    while 0.0 in metric(sockets, "authgate_websockets") and len(held) < 200:
        held.append(opened(sockets, clients, mine))  # until either worker has some
    kept = opened(sockets, clients, other)
    assert 0.0 not in metric(sockets, "authgate_websockets")
    assert sum(metric(sockets, "authgate_websockets")) == len(held) + 1
    assert sockets.call("POST", "/auth/logout", token=mine).status == 204
    acknowledged_at = time.monotonic()
    for socket in held:
        assert ended(socket, 1.0) == (1008, "token_revoked")
    assert time.monotonic() - acknowledged_at < 1.0
    goes_on(kept)


def test_the_end_of_a_personal_key_closes_the_sockets_that_it_opened(
    sockets: Running, clients: ExitStack
) -> None:
    token = sockets.sign_in("keyed@example.com")["access_token"]
    made = sockets.call("POST", "/auth/keys", token=token, json_body={"name": "laptop"}).json
    held = [opened(sockets, clients, made["api_key"]) for _ in range(10)]
    kept = opened(sockets, clients, token)
    assert sockets.call("DELETE", f"/auth/keys/{made['key_id']}", token=token).status == 204
    for socket in held:
        assert ended(socket, 5.0) == (1008, "token_revoked")
    goes_on(kept)


def test_a_handshake_without_a_token_opens_nothing(sockets: Running) -> None:
    with pytest.raises(websockets.InvalidStatus) as refused:
        connect(f"ws://127.0.0.1:{sockets.port}/ws").__enter__()
    assert refused.value.response.status_code == 401


def test_a_socket_of_a_cookie_needs_proof_of_intent_and_ends_with_its_session(
    sockets: Running, clients: ExitStack
) -> None:
    cookie = cookie_of(sockets, "cookie@example.com")
    own = f"http://127.0.0.1:{sockets.port}"
    url = f"ws://127.0.0.1:{sockets.port}/ws"
    for origin in ("https://evil.example", "null", None):
        more = {} if origin is None else {"Origin": origin}
        with pytest.raises(websockets.InvalidStatus) as refused:
            connect(url, additional_headers={"Cookie": cookie} | more).__enter__()
        assert refused.value.response.status_code == 403
    socket = opened(sockets, clients, Origin=own, Cookie=cookie)
    goes_on(socket)
    out = sockets.call("POST", "/auth/logout", ("Cookie", cookie), ("Origin", own))
    assert out.status == 204
    assert ended(socket, 1.0) == (1008, "token_revoked")


def last_used(running: Running, email: str) -> int:
    sessions = json.loads(running.cli("sessions", "list", email, "--json").stdout)
    return max(int(session["last_used_at"]) for session in sessions)


def test_a_socket_of_a_cookie_lives_as_long_as_its_session(
    sockets: Running, clients: ExitStack
) -> None:
    email = "long@example.com"
    cookie = cookie_of(sockets, email)
    socket = opened(sockets, clients, Origin=f"http://127.0.0.1:{sockets.port}", Cookie=cookie)
    goes_on(socket)
    began = last_used(sockets, email)
    # That it is read again is use of the session too: twice, so the second time counts as well.
    until(lambda: last_used(sockets, email) >= began + 2 * READ_AGAIN_S, 15)
    goes_on(socket)
    assert sockets.cli("users", "disable", email).returncode == 0
    assert ended(socket, 1.0) == (1008, "token_revoked")


def test_the_socket_of_a_token_ends_with_it_unless_its_route_judges_again(
    sockets: Running, clients: ExitStack
) -> None:
    email = "member@example.com"
    sockets.sign_in(email)
    sockets.cli("roles", "grant", email, "member")
    token = sockets.sign_in(email)["access_token"]
    ends = opened(sockets, clients, token)
    goes = opened(sockets, clients, token, "/room")
    assert ended(ends, 15.0) == (1008, "token_expired")
    goes_on(goes)
    assert sockets.call("GET", "/me", token=token).reason == "token_expired"
    goes_on(goes)
    # The roles of that moment: first another one more, then one that the policy throws out.
    assert sockets.cli("roles", "grant", email, "reader").returncode == 0
    goes_on(goes)
    assert sockets.cli("roles", "grant", email, "banned").returncode == 0
    assert ended(goes, 1.0) == (1008, "thrown_out")


def test_another_policy_closes_whom_it_refuses(sockets: Running, clients: ExitStack) -> None:
    sockets.sign_in("edit@example.com")
    sockets.cli("roles", "grant", "edit@example.com", "member")
    token = sockets.sign_in("edit@example.com")["access_token"]
    room = opened(sockets, clients, token, "/room")
    plain = opened(sockets, clients, token)
    policy = sockets.folder / "policies" / "room.yaml"
    policy.write_text(ROOM.replace("'member' in", "'chair' in"))
    try:
        assert ended(room, 10.0) == (1008, "no_rule")
        goes_on(plain)
    finally:
        policy.write_text(ROOM)


def test_a_user_has_as_many_sockets_as_each_worker_allows_and_no_more(
    sockets: Running, clients: ExitStack
) -> None:
    sockets.sign_in("many@example.com")
    sockets.cli("roles", "grant", "many@example.com", "member")
    token = sockets.sign_in("many@example.com")["access_token"]
    until(lambda: sockets.call("GET", "/room", token=token).status != 403, 10)
    refused = []
    for _ in range(40):
        try:
            opened(sockets, clients, token, "/room")
        except websockets.InvalidStatus as error:
            refused.append(error.response)
    assert 40 - 2 * 3 <= len(refused) <= 40 - 3
    assert {answer.status_code for answer in refused} == {429}
    assert all(int(answer.headers["Retry-After"]) >= 1 for answer in refused)
