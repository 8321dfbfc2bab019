"""The decision API and the probes beside it, while strangers call through the proxy that asks."""

from __future__ import annotations

import json
import secrets
import socket
import threading
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from tests.contract.answers import Answer, read_answer
from tests.contract.running import Running, started

ROUTES = """\
version: 1
decision_api: {{trusted_peers: [127.0.0.1/32]}}
upstreams:
  echo: {{targets: ["http://127.0.0.1:{port}"]}}
routes:
  - {{id: me, match: {{path: /me}}, policy: signed-in, upstream: echo}}
"""


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder: Path = tmp_path_factory.mktemp("decisions") / "g"
    with started(folder, routes=ROUTES) as running:
        yield running


def question(token: str) -> bytes:
    told = ("Method: GET", "URI: /me", "Host: a", "Proto: http", "IP: 192.0.2.7")
    lines = ["GET /decide/nginx HTTP/1.1", "Host: x", *(f"X-Original-{one}" for one in told)]
    return "\r\n".join([*lines, f"Authorization: Bearer {token}", "", ""]).encode()


def of_a_made_up_key(token: str) -> str:
    head, rest = token.split(".", 1)
    fields = json.loads(urlsafe_b64decode(head + "=="))
    fields["kid"] = urlsafe_b64encode(secrets.token_bytes(32)).rstrip(b"=").decode()
    made = urlsafe_b64encode(json.dumps(fields).encode()).rstrip(b"=").decode()
    return f"{made}.{rest}"


def asked(gateway: Running, token: str) -> Answer:
    with socket.create_connection(("127.0.0.1", gateway.admin_port), timeout=60) as sock:
        sock.sendall(question(token))
        return read_answer(sock.makefile("rb"), "GET")


@contextmanager
def strangers(gateway: Running, token: str, count: int) -> Iterator[None]:
    """So many who call again and again, each with a key of its own invention, all at once."""
    over, beginning = threading.Event(), threading.Barrier(count + 1)

    def call() -> None:
        beginning.wait()
        while not over.is_set():
            with suppress(OSError):
                asked(gateway, of_a_made_up_key(token))

    threads = [threading.Thread(target=call) for _ in range(count)]
    for thread in threads:
        thread.start()
    beginning.wait()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


def test_tokens_of_made_up_keys_keep_no_decision_and_no_probe_waiting(gateway: Running) -> None:
    """Each waited up to a second for SQL to be read, and 64 were all that the listener took up:
    70 such calls a second held every decision and every probe for longer than 8 s."""
    token = gateway.sign_in("live@example.com")["access_token"]
    took: list[float] = []
    with strangers(gateway, token, 150):
        for _ in range(10):
            began = time.monotonic()
            assert asked(gateway, token).status == 200
            assert gateway.admin("/healthz").status == 200
            took.append(time.monotonic() - began)
    assert max(took) < 4, took


def test_a_proxy_keeps_more_connections_than_a_hundred(gateway: Running) -> None:
    """`keepalive 256;` is what the page on scaling writes."""
    token = gateway.sign_in("live@example.com")["access_token"]
    with ExitStack() as stack:
        kept = [
            stack.enter_context(
                socket.create_connection(("127.0.0.1", gateway.admin_port), timeout=60)
            )
            for _ in range(150)
        ]
        readers = [sock.makefile("rb") for sock in kept]
        for _ in range(2):
            for sock, reader in zip(kept, readers, strict=True):
                sock.sendall(question(token))
                assert read_answer(reader, "GET").status == 200
