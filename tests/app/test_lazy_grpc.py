"""Whoever does not ask for gRPC has nothing of it in the process."""

from __future__ import annotations

import subprocess
import sys


def test_a_worker_loads_nothing_of_grpc_until_it_is_asked_for() -> None:
    text = (
        "import sys, gateway.cli, gateway.app.worker_process\n"
        "print([name for name in sys.modules if name.split('.')[0] in ('grpc', 'google')])"
    )
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
