"""Memory that threads have freed is used again by the others, and given back to the system."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

# Each thread in turn takes 20 MB and keeps a fiftieth of it, so that no page is free at the end.
PROGRAM = """
import json, sys, threading
from pathlib import Path
from gateway.app.allocator import give_back, share_one_heap

if sys.argv[1] == "shared":
    share_one_heap()
kept, figures = [], []

def held_kb():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon:"))

def work():
    pieces = [bytes(2_000) for _ in range(10_000)]
    kept.append(pieces[::50])

turn, together = threading.Lock(), threading.Barrier(4)

def work_in_turn():
    with turn:
        work()
    together.wait()

figures.append(held_kb())
threads = [threading.Thread(target=work_in_turn) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
figures.append(held_kb())
give_back()
figures.append(held_kb())
print(json.dumps(figures))
"""


def figures(how: str) -> tuple[int, int, int]:
    """KB of a process before, after its threads have ended, and after it has given back."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, check=True
    )
    before, after, given_back = json.loads(done.stdout)
    return before, after, given_back


@pytest.mark.parametrize("how", ["shared", "each its own"])
def test_what_lies_between_pieces_that_are_held_is_given_back(how: str) -> None:
    before, after, given_back = figures(how)
    assert after - before > 15_000
    assert given_back - before < (after - before) / 2


def test_one_thread_uses_again_what_another_has_freed() -> None:
    _, shared, _ = figures("shared")
    _, own, _ = figures("each its own")
    assert shared < own / 2
