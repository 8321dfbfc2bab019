"""A soak that is ended leaves nobody behind, whatever it was doing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from bench.processes import family
from bench.rig import found
from bench.turned_clock import LIBRARY
from tests.e2e.processes import alive, until

REPOSITORY = Path(__file__).parents[2]
SERVERS = 4
"""So many processes below it: stores, and the first of its own."""

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_soak_that_is_ended_leaves_no_server_running(tmp_path: Path, how: signal.Signals) -> None:
    if not found("haproxy"):
        pytest.skip("needs haproxy: apt-get install haproxy")
    if LIBRARY is None:
        pytest.skip("needs libfaketime: apt-get install faketime")
    # PostgreSQL runs as another user, who may not enter pytest's own folder.
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        with subprocess.Popen(
            [sys.executable, "-m", "bench.soak", "--minutes", "1", "--folder", f"{tmp_path}/f"],
            cwd=REPOSITORY,
            env=os.environ | {"TMPDIR": place},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as soak:
            until(lambda: len(family(soak.pid)) > SERVERS, 60)
            started = family(soak.pid)[1:]
            soak.send_signal(how)
            assert soak.wait(90) != 0
            until(lambda: not any(alive(pid) for pid in started), 30)
