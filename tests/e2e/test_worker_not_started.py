"""A worker that cannot be started is logged once, and counted where an alert can see it."""

from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path

import pytest

from tests.contract.answers import Answer
from tests.contract.running import Running, started
from tests.servers import wait_until

pytestmark = pytest.mark.slow
WITHIN_S = 40.0


def asked(gateway: Running, path: str) -> Answer:
    """Asked again where it was the worker that died which had taken the connection."""
    deadline = time.monotonic() + WITHIN_S
    while True:
        try:
            return gateway.admin(path)
        except ConnectionError:
            assert time.monotonic() < deadline, gateway.log.read_text()


def restarts(gateway: Running) -> float:
    text = asked(gateway, "/metrics").body.decode()
    found = re.search(r"^authgate_worker_restarts_total(?:\{\})? (\S+)$", text, re.M)
    return float(found[1]) if found else 0.0


def workers(gateway: Running) -> list[int]:
    return [worker["worker"] for worker in asked(gateway, "/readyz").json["workers"]]


def test_a_worker_that_cannot_be_started_is_counted_and_tried_again(tmp_path: Path) -> None:
    with started(tmp_path / "g", "--workers", "2") as gateway:
        # The master's word: a worker that it has seen, and that can decide; not one that is listed.
        wait_until(lambda: '"event": "ready"' in gateway.log.read_text(), WITHIN_S, "two workers")
        data, away = gateway.folder / "data", gateway.folder / "away"
        data.rename(away)  # where each worker has a file of its own
        os.kill(workers(gateway)[0], signal.SIGKILL)
        # One that died, and the tries to put another in its place.
        wait_until(lambda: restarts(gateway) >= 3, WITHIN_S, "the count of the tries")
        assert not data.exists()  # no worker makes an empty one that would pass for it
        away.rename(data)
        wait_until(lambda: len(workers(gateway)) == 2, WITHIN_S, "another worker")
        log = gateway.log.read_text()
        assert log.count("worker-not-started") == 1
        assert "Traceback" not in log
