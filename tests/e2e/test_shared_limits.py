"""Limits that workers share, from the first call that they take."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from tests.contract.running import ROUTES, Running, started

pytestmark = pytest.mark.slow

BURST, RATE_A_S, SECONDS, CALLERS = 50, 10, 4, 12
ROUTES_WITH_A_LIMIT = (
    ROUTES.replace(
        "limits:\n  few:",
        f"limits:\n  many: {{{{key: address, rate: {RATE_A_S}/1s, burst: {BURST}}}}}\n  few:",
    )
    .replace("limits: [few]", "limits: [many]")
    .replace("connect: 1s, response: 2s", "connect: 20s, response: 20s")
)


def passed(running: Running) -> float:
    """How many calls passed, as a part of what the limit allows for the time that it took."""
    answers: list[int] = []
    began = time.monotonic()

    def ask() -> None:
        while time.monotonic() < began + SECONDS:
            # A new connection each time, so that it lands on either worker.
            answers.append(running.call("GET", "/limited").status)

    callers = [threading.Thread(target=ask) for _ in range(CALLERS)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert set(answers) == {200, 429}
    return answers.count(200) / (BURST + RATE_A_S * (time.monotonic() - began))


def test_two_workers_that_have_just_started_pass_no_more_than_the_limit(tmp_path: Path) -> None:
    with started(
        tmp_path / "g", "--workers", "2", routes=ROUTES_WITH_A_LIMIT, until="/healthz"
    ) as running:
        assert passed(running) <= 1.05
