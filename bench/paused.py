"""`python -m bench.paused`: does a worker that stood still pass what it may not pass any more?

Two workers hold sockets and streams of one user.  One of them is stopped at work (SIGSTOP), the
user signs out on the other, clients and upstream talk on, and after the 204 the first goes on.
Exits 1 when a frame or an event that was said after the 204 is handed on.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from bench.processes import run_bench
from tests.contract.running import started
from tests.e2e.pausing import Pausing

console = Console()


def main(
    runs: Annotated[int, typer.Option(min=1)] = 20,
    pairs: Annotated[int, typer.Option(min=1, help="Sockets, and as many streams, a run.")] = 8,
) -> None:
    """Stop a worker over a sign-out, and count what it then hands on."""
    frames = events = held = 0
    with (
        tempfile.TemporaryDirectory(prefix="authgate-paused-") as folder,
        started(Path(folder) / "g", "--workers", "2", GATEWAY_MAX_STALENESS_S="2") as running,
    ):
        pausing = Pausing(running)
        pausing.install()
        for number in range(runs):
            passed = pausing.run(f"paused{number}@example.com", pairs)
            frames, events = frames + passed.frames, events + passed.events
            held += passed.held
            console.print(f"run {number + 1}: {passed}", style="dim")
    figures = {"runs": runs, "held": held, "frames_passed": frames, "events_passed": events}
    console.print_json(json.dumps(figures))
    raise typer.Exit(1 if frames or events or not held else 0)


if __name__ == "__main__":
    run_bench(main)
