"""A bench that is ended leaves nobody behind, however it is ended."""

from __future__ import annotations

import json
import os
import re
import shutil
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


def instructions(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bench.instructions", *words],
        cwd=REPOSITORY,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )


@pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind is not here")
def test_the_instructions_of_whole_requests_are_counted(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    few = ("--requests", "20", "--slices", "1", "--warm-up", "20", "--idle-s", "1")
    done = instructions(*few, "--out", str(figures))
    assert done.returncode == 0, done.stdout + done.stderr
    counted = json.loads(figures.read_text())
    assert len(counted) == 16
    # Far from either bound: less would be no request, more a start or another process.
    assert all(30_000 < count < 3_000_000 for count in counted.values()), counted


def test_without_valgrind_it_is_told_what_to_install() -> None:
    done = instructions(PATH="")
    assert done.returncode == 3
    assert "apt-get install valgrind" in done.stdout


def test_every_bench_with_a_command_line_is_run_so() -> None:
    for path in sorted((REPOSITORY / "bench").glob("*.py")):
        text = path.read_text("utf-8")
        if re.search(
            r"\b(Started|started|Cluster\.build|Rig\.build|PostgresServer|ValkeyServer)\(", text
        ):
            main = text.partition('if __name__ == "__main__":')[2]
            assert re.fullmatch(r"\s*(run_bench\(main\)\s*)?", main), path.name
