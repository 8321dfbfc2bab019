"""Keeps the counts of dead workers part of their node's counts.

`/metrics` adds the workers up.  A sum that goes back is a restart to Prometheus: it counts
everything that is left a second time, so that a worker's death would raise an alert for 500s of
long ago.  The worker that answers a scrape keeps the last counts of each worker in the data
folder, and adds those of a dead one to the sum of the dead.  The file begins anew with the
gateway.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from gateway.telemetry.metrics import State

_LOCK_TIMEOUT_S = 0.25
_FOLDED = 64
"""Dead workers that are remembered as added: a slower answer may still hold one."""


class RetainedCounts:
    """Blocks on its file: not to be called on a loop."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "counts.json"
        self._lock = folder / "counts.lock"

    def begin_anew(self) -> None:
        """Removes the file of an earlier gateway, before any worker runs."""
        with suppress(OSError):
            self._file.unlink(missing_ok=True)

    def completed(self, states: Sequence[State]) -> list[State]:
        """These states, and those of the workers that do not answer any more.

        Where the folder cannot be written the answer is the same; it only is not kept.
        """
        try:
            lock = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            return list(states)
        try:
            return self._completed(states, keeps=_locked(lock))
        finally:
            os.close(lock)

    def _completed(self, states: Sequence[State], *, keeps: bool) -> list[State]:
        kept = self._read()
        folded: list[str] = kept["folded"]
        live = {state["life"]: state for state in states if state["life"] not in folded}
        silent, gone = {}, [kept["gone"]]
        for life, counts in kept["lives"].items():
            if life in live:
                continue
            if _is_gone(counts["worker"]):
                gone.append(counts)
                folded.append(life)
            else:
                silent[life] = counts
        total = summed(gone)
        lives = silent | {life: _counts(state) for life, state in live.items()}
        if keeps:
            self._write({"gone": total, "lives": lives, "folded": folded[-_FOLDED:]})
        return [*live.values(), *map(_shown, (total, *silent.values()))]

    def _read(self) -> dict[str, Any]:
        with suppress(OSError, ValueError):
            read = json.loads(self._file.read_bytes())
            if isinstance(read, dict) and read.keys() == {"gone", "lives", "folded"}:
                return read
        return {"gone": summed(()), "lives": {}, "folded": []}

    def _write(self, kept: Mapping[str, Any]) -> None:
        fresh = self._file.with_suffix(".new")
        with suppress(OSError):
            fresh.write_bytes(json.dumps(kept).encode())
            fresh.replace(self._file)


def _locked(descriptor: int) -> bool:
    """Whether this process has the lock now: a stopped worker may hold it for any time."""
    until = time.monotonic() + _LOCK_TIMEOUT_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                return False
            time.sleep(0.005)
        else:
            return True


def _is_gone(worker: str) -> bool:
    """Whether no process has that number; one that got it anew counts as silent."""
    try:
        os.kill(int(worker), 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


def _counts(state: State) -> dict[str, Any]:
    """The counters of a state; routes that nobody has called yet are left out."""
    return {
        "worker": state["worker"],
        "routes": [route for route in state["routes"] if route[1]],
        "tallies": state["tallies"],
        "histograms": state["histograms"],
    }


def _shown(counts: Mapping[str, Any]) -> State:
    """A state that has counts alone."""
    return {**counts, "gauges": [], "labelled_gauges": [], "node": [], "infos": [], "process": []}


def summed(states: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """One state of counts that holds all of these."""
    routes: dict[str, list[Any]] = {}
    tallies: dict[str, list[Any]] = {}
    histograms: dict[str, list[Any]] = {}
    for state in states:
        for route, answers, decided, forwarded in state["routes"]:
            sums = routes.setdefault(route, [{}, None, None])
            _count(sums[0], answers)
            sums[1], sums[2] = _added(sums[1], decided), _added(sums[2], forwarded)
        for name, about, labels, children in state["tallies"]:
            _count(tallies.setdefault(name, [about, labels, {}])[2], children)
        for name, about, labels, children in state["histograms"]:
            children_sums = histograms.setdefault(name, [about, labels, {}])[2]
            for key, plain in children:
                children_sums[tuple(key)] = _added(children_sums.get(tuple(key)), plain)
    return {
        "worker": "",
        "routes": [[name, _pairs(sums[0]), *sums[1:]] for name, sums in routes.items()],
        "tallies": [[name, *sums[:2], _pairs(sums[2])] for name, sums in tallies.items()],
        "histograms": [[name, *sums[:2], _pairs(sums[2])] for name, sums in histograms.items()],
    }


def _count(sums: dict[tuple[Any, ...], int], counted: Iterable[Sequence[Any]]) -> None:
    for key, n in counted:
        sums[tuple(key)] = sums.get(tuple(key), 0) + n


def _added(sums: list[Any] | None, plain: list[Any]) -> list[Any]:
    """Bounds, counts and total of both histograms."""
    if sums is None:
        return plain
    counts = [a + b for a, b in zip(sums[1], plain[1], strict=True)]
    return [sums[0], counts, sums[2] + plain[2]]


def _pairs(sums: Mapping[tuple[Any, ...], Any]) -> list[list[Any]]:
    return [[list(key), value] for key, value in sums.items()]
