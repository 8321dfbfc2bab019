"""Two processes of the suite are never given one port."""

from __future__ import annotations

import itertools
import random
import subprocess
import sys
from pathlib import Path

import pytest

from bench.rig import PORTS
from tests import ports

ROOT = Path(__file__).parents[1]
TAKES = "import sys; from tests.ports import _Taken, Path; print(_Taken(Path(sys.argv[1])).take(7))"


def taken_by_another(path: Path) -> bool:
    done = subprocess.run(
        [sys.executable, "-c", TAKES, str(path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip() == "True"


def test_a_port_is_given_once_and_to_no_other_process(tmp_path: Path) -> None:
    # Whoever had it before has ended, and has it no more.
    assert taken_by_another(tmp_path / "ports")
    ours = ports._Taken(tmp_path / "ports")
    assert ours.take(7)
    assert not ours.take(7)
    assert not taken_by_another(tmp_path / "ports")
    assert ours.take(8)


def test_no_port_comes_twice() -> None:
    given = [ports.free_port() for _ in range(200)]
    assert len(set(given)) == 200


def test_a_bench_has_its_ports_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would find one of them taken for as long as the test runs that was given it."""
    draws = itertools.count(PORTS.start)
    monkeypatch.setattr(random.SystemRandom, "randrange", lambda *_: next(draws))
    assert ports.free_port() >= PORTS.stop
