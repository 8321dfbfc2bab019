"""What the tests of running gateways ask of their processes."""

from __future__ import annotations

import itertools
import json
import re
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.contract.running import Running

HEAP_BYTES = 64 << 20


def until(condition: Callable[[], bool], within_s: float) -> None:
    """Polls what another process does; it has no event for us.  A connection that a killed
    worker had not accepted yet is reset: not there yet."""

    def holds() -> bool:
        try:
            return condition()
        except ConnectionError:
            return False

    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline, f"not within {within_s} s"
        threading.Event().wait(0.02)


def ready(running: Running) -> dict[str, Any]:
    return dict(json.loads(running.admin("/readyz").body))


def workers(running: Running) -> list[int]:
    """The workers that can decide."""
    return [one["worker"] for one in ready(running)["workers"] if one["ready"]]


def metric(running: Running, name: str) -> list[float]:
    text = running.admin("/metrics").body.decode()
    return [float(value) for value in re.findall(rf"^{name}(?:{{[^}}]*}})? (\S+)$", text, re.M)]


def public_works(running: Running) -> bool:
    return running.call("GET", "/public/x").status == 200


def versions(running: Running) -> set[str]:
    return {one["configuration"]["version"] for one in ready(running)["workers"]}


def edit(running: Running, change: Callable[[str], str]) -> None:
    path = running.folder / "routes.yaml"
    path.write_text(change(path.read_text("utf-8")), "utf-8")


def listening(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except ConnectionRefusedError:
        return False
    return True


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def family(running: Running) -> list[int]:
    return [pid for pid in children(running.process.pid) if alive(pid)]


def children(pid: int) -> list[int]:
    return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def name_of(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()


def heaps(pid: int) -> int:
    """Of threads, as glibc makes them: 64 MiB at a multiple of as many, of which what is not used
    yet may not be touched."""
    areas = [_area(line) for line in Path(f"/proc/{pid}/maps").read_text().splitlines()]
    return sum(
        begin % HEAP_BYTES == 0 and rights == "rw-p" and later[1:] == (begin + HEAP_BYTES, "---p")
        for (begin, _, rights), later in itertools.pairwise(areas)
    )


def _area(line: str) -> tuple[int, int, str]:
    """Where it begins and ends, and what may be done with it: proc_pid_maps(5)."""
    addresses, rights, *_ = line.split()
    begin, _, end = addresses.partition("-")
    return int(begin, 16), int(end, 16), rights
