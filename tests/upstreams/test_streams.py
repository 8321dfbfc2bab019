"""What lasts, or is framed otherwise than a page: events, gRPC-Web, Socket.IO, trailers, sockets."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.sync.client import connect

from tests.browser.driving import NEEDS_CHROMIUM, chromium
from tests.contract.running import Running
from tests.upstreams.started import NODE, Upstreams

pytestmark = pytest.mark.slow

PASSWORD = "correct horse 7 battery"


def node_says(script: str, front: Running, token: str, prefix: str, **more: str) -> Any:
    """What one of the scripts in `node/` prints."""
    origin = f"http://127.0.0.1:{front.port}"
    words = {"ORIGIN": origin, "TOKEN": token, "PREFIX": prefix, **more}
    done = subprocess.run(
        ["node", str(NODE / script)],
        cwd=NODE,
        env={**os.environ, **words},
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)


def test_grpc_web_keeps_fields_trailers_streams_and_codes(
    upstreams: Upstreams, front: Running, token: str, user: str
) -> None:
    upstreams.start("grpcweb")
    told = node_says("grpc-client.js", front, token, "/grpcweb")
    assert told == {
        "text": "héllo",
        "user": user,
        "leading": "1",
        "trailing": "2",
        "repeated": 50,
        "codes": [
            [3, "nothing was said"],
            [8, "that was all"],
            # gRPC's UNAUTHENTICATED, which its client makes of the gateway's 401.
            [16, "HTTP 401"],
        ],
    }


def test_socket_io_polls_upgrades_and_knows_who_calls(
    upstreams: Upstreams, front: Running, token: str, user: str
) -> None:
    upstreams.start("express")
    told = node_says("socket-client.js", front, token, "/express")
    assert told == {"began": "polling", "user": user, "said": "websocket: héllo"}


def test_socket_io_without_a_credential_is_refused(upstreams: Upstreams, front: Running) -> None:
    upstreams.start("express")
    assert "error" in node_says("socket-client.js", front, "", "/express")


def test_trailers_of_an_answer_reach_nodes_client(
    upstreams: Upstreams, front: Running, token: str
) -> None:
    upstreams.start("express")
    url = f"http://127.0.0.1:{front.port}/express/trailers"
    assert node_says("trailers.js", front, token, "", URL=url) == {"x-sum": "four"}


def test_websockets_talks_to_fastapi(
    upstreams: Upstreams, front: Running, token: str, user: str
) -> None:
    upstreams.start("fastapi")
    fields = {"Authorization": f"Bearer {token}", "X-Auth-User-Id": "root"}
    url = f"ws://127.0.0.1:{front.port}/fastapi/socket"
    with connect(url, additional_headers=fields, subprotocols=["echo"], proxy=None) as socket:  # type: ignore[list-item]
        assert socket.subprotocol == "echo"
        assert json.loads(socket.recv()) == {"user": [user]}
        for text in ("a", "ü" * 100_000, ""):
            socket.send(text)
            assert socket.recv() == text


def test_httpx_reads_events_when_they_come(
    upstreams: Upstreams, front: Running, token: str, user: str
) -> None:
    upstreams.start("fastapi")
    origin = f"http://127.0.0.1:{front.port}/fastapi"
    own = {"Authorization": f"Bearer {token}"}
    with (
        httpx.Client(trust_env=False, headers=own, timeout=30) as client,
        client.stream("GET", f"{origin}/events") as answer,
    ):
        assert answer.headers["content-type"].startswith("text/event-stream")
        told = []
        for line in answer.iter_lines():
            if line.startswith("data: "):
                told.append(line.removeprefix("data: "))
                if told[-1] == "-":
                    break
                # The next event is not made before this one was read.
                assert client.post(f"{origin}/heard").status_code == 204
        assert told == [user, user, user, "-"]


READ_EVENTS = """
const [user] = args
const source = new EventSource('/fastapi/events')
const told = []
await new Promise((end, fail) => {
  source.onerror = fail
  source.onmessage = async (event) => {
    told.push([event.lastEventId, event.data])
    await fetch('/fastapi/heard', { method: 'POST' })
  }
  source.addEventListener('end', end)
})
source.close()
const form = new FormData()
form.append('note', 'from a page')
form.append('file', new Blob([new Uint8Array(2000000)]), 'zeros')
const sent = await (await fetch('/fastapi/form', { method: 'POST', body: form })).json()
const echo = await (await fetch('/fastapi/echo/é%20+?q=a+b')).json()
return { told, size: sent.size, path: echo.path, query: echo.query, cookies: document.cookie }
"""


@NEEDS_CHROMIUM
def test_a_page_reads_events_and_sends_forms_with_its_session_cookie(
    upstreams: Upstreams, front: Running, token: str, user: str, tmp_path: Path
) -> None:
    upstreams.start("fastapi")
    with chromium(tmp_path / "profile") as browser:
        # A page of the backend's: those of the gateway connect to nothing.
        browser.open(f"http://127.0.0.1:{front.port}/fastapi/page")
        status = browser.run(
            "return (await fetch('/auth/login', {method: 'POST', headers: "
            "{'content-type': 'application/json'}, body: JSON.stringify("
            "{email: args[0], password: args[1], transport: 'cookie'})})).status",
            "ada@example.com",
            PASSWORD,
        )
        assert status == 200
        told = browser.run(READ_EVENTS, user)
    assert told == {
        "told": [[str(n), user] for n in range(3)],
        "size": 2_000_000,
        "path": "/fastapi/echo/é +",
        "query": [["q", "a b"]],
        "cookies": "",
    }
