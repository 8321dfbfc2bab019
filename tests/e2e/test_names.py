"""Upstreams by name, behind a name server that says nothing."""

from __future__ import annotations

import os
import shutil
import socket
from pathlib import Path

import pytest

from tests.contract.running import ROUTES, started

SILENT = "127.0.0.77"
NAMES = [f"slow{number}" for number in range(10)]
"""More than the event loop has threads for such questions."""
UPSTREAM = '  {name}: {{targets: ["http://{name}.example.com:9"], timeout: {{connect: 60s}}}}\n'
ROUTE = "  - {{id: {name}, match: {{path: /{name}}}, auth: public, upstream: {name}}}\n"


def routes() -> str:
    """Those of the contract's tests, by the name of this machine, and one for each slow name."""
    upstreams = "".join(UPSTREAM.format(name=name) for name in NAMES)
    slow = "".join(ROUTE.format(name=name) for name in NAMES)
    text = ROUTES.replace("http://127.0.0.1:{port}", "http://localhost:{port}")
    escaped = (
        upstreams.replace("{", "{{").replace("}", "}}"),
        slow.replace("{", "{{").replace("}", "}}"),
    )
    return text.replace("upstreams:\n", f"upstreams:\n{escaped[0]}", 1) + escaped[1]


@pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("unshare") is None,
    reason="a name server of its own needs root and unshare (apt-get install util-linux)",
)
def test_names_that_nobody_resolves_hold_up_neither_another_name_nor_the_end(
    tmp_path: Path,
) -> None:
    resolv = tmp_path / "resolv.conf"
    resolv.write_text(f"nameserver {SILENT}\noptions timeout:30 attempts:1\n", "utf-8")
    within = ("unshare", "--mount", "sh", "-c",
              f'mount --bind "{resolv}" /etc/resolv.conf && exec "$@"', "sh")  # fmt: skip
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as name_server:
        name_server.bind((SILENT, 53))
        name_server.settimeout(20)
        with started(tmp_path / "g", routes=routes(), within=within) as running:
            waiting = [socket.create_connection(("127.0.0.1", running.port)) for _ in NAMES]
            for caller, name in zip(waiting, NAMES, strict=True):
                caller.sendall(f"GET /{name} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            asked: set[str] = set()
            while len(asked) < len(NAMES):
                question = name_server.recv(512)
                asked |= {name for name in NAMES if name.encode() in question}
            assert [running.call("GET", "/public/x").status for _ in range(20)] == [200] * 20
            for caller in waiting:
                caller.setblocking(False)
                with pytest.raises(BlockingIOError):  # it still waits
                    caller.recv(1)
                caller.close()
