"""A bench that is ended leaves nobody behind, however it is ended."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.e2e.processes import alive, children, until

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[1]

BENCH = """\
import time
from pathlib import Path

from bench.processes import Started, run_bench
from tests.servers import PostgresServer, ValkeyServer


def main() -> None:
    folder = Path({folder!r})
    sleeper = Started(["sleep", "600"], cpu=None, log=folder / "log", cwd=folder)
    valkey = ValkeyServer(folder / "valkey").start()
    postgres = PostgresServer(folder / "postgres").start()
    try:
        print(sleeper.pid, valkey.pid, postgres.pid, flush=True)
        while True:  # a pause would miss what comes just before it
            time.sleep(0.1)
    finally:
        for server in (valkey, postgres):
            server.kill()
        sleeper.stop()
        print("stopped", flush=True)


run_bench(main)
"""


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGKILL])
def test_a_bench_that_is_ended_leaves_no_server_running(how: signal.Signals) -> None:
    # PostgreSQL runs as another user, who may not enter pytest's own folder.
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        with subprocess.Popen(
            [sys.executable, "-c", BENCH.format(folder=folder)],
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            # What a shell starts in the background is deaf to Ctrl-C, and so is its family.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        ) as bench:
            assert bench.stdout is not None
            servers = [int(pid) for pid in bench.stdout.readline().split()]
            assert len(servers) == 3
            family = [*servers, *(pid for server in servers for pid in children(server))]
            assert len(family) > 3  # PostgreSQL's own
            bench.send_signal(how)
            said, _ = bench.communicate(timeout=60)
            assert said == ("" if how is signal.SIGKILL else "stopped\n")
            assert bench.returncode != 0
            until(lambda: not any(alive(pid) for pid in family), 20)


def test_every_bench_with_a_command_line_is_run_so() -> None:
    for path in sorted((REPOSITORY / "bench").glob("*.py")):
        text = path.read_text("utf-8")
        if re.search(
            r"\b(Started|started|Cluster\.build|Rig\.build|PostgresServer|ValkeyServer)\(", text
        ):
            main = text.partition('if __name__ == "__main__":')[2]
            assert re.fullmatch(r"\s*(run_bench\(main\)\s*)?", main), path.name
