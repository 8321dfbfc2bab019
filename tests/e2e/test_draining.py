"""A node that is told to end while it is busy: what had begun is answered, and it is gone in time."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from bench.drain import MOST_DROPPED, MOST_EXTRA_S, Callers, end_under_load
from tests.contract.running import started

pytestmark = pytest.mark.slow

DRAIN_S = 1.0


@pytest.mark.parametrize("after_s", [0.6, 0.7, 0.8, 0.9, 1.0])
def test_sigterm_under_load_drops_nobody_whose_connection_was_made(
    tmp_path: Path, after_s: float
) -> None:
    with started(tmp_path / "g", "--workers", "2", GATEWAY_DRAIN_S=str(DRAIN_S)) as one:
        head = f"GET /public/x HTTP/1.1\r\nHost: 127.0.0.1:{one.port}\r\n\r\n".encode()
        process = one.process
        ended = asyncio.run(
            end_under_load(
                Callers(one.port, head, count=24),
                process.pid,
                lambda: process.poll() is not None,
                after_s,
            )
        )
        assert ended.without_an_end == 0, ended
        assert ended.dropped <= MOST_DROPPED, ended
        assert ended.found["answered"] > 100, ended
        assert ended.exit_s < DRAIN_S + MOST_EXTRA_S, ended
        assert process.returncode == 0
