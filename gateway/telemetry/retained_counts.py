"""What workers had counted that have died stays part of their node's counts.

`/metrics` adds the workers up.  A sum that goes back is a restart to Prometheus: it counts
everything that is left a second time, so that a worker's death would ring for 500s of long ago.
Whoever is asked keeps in the data folder what each worker last told, and once a worker is gone
adds that to the sum of those before it.  The file begins anew with the gateway.
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

_LOCK_WITHIN_S = 0.25
_FOLDED = 64
"""Lives that are remembered as added: a slower answer may still tell of one."""


class KeptCounts:
    """Blocks on its file: not to be called on a loop."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "counts.json"
        self._lock = folder / "counts.lock"

    def begin_anew(self) -> None:
        """No worker runs yet."""
        with suppress(OSError):
            self._file.unlink(missing_ok=True)

    def completed(self, told: Sequence[State]) -> list[State]:
        """These states, and those of the workers that do not tell any more.

        Where the folder cannot be written the answer is the same; it only is not kept.
        """
        try:
            lock = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            return list(told)
        try:
            return self._completed(told, keeps=_locked(lock))
        finally:
            os.close(lock)

    def _completed(self, told: Sequence[State], *, keeps: bool) -> list[State]:
        kept = self._read()
        folded: list[str] = kept["folded"]
        live = {state["life"]: state for state in told if state["life"] not in folded}
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
    """Whether it is ours now: a worker that was stopped may hold it for as long as it likes."""
    until = time.monotonic() + _LOCK_WITHIN_S
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
    """A number that was given again is one that stays silent: it counts all the same."""
    try:
        os.kill(int(worker), 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


def _counts(state: State) -> dict[str, Any]:
    """What only grows of it; routes that nobody has called yet tell nothing."""
    return {
        "worker": state["worker"],
        "routes": [route for route in state["routes"] if route[1]],
        "tallies": state["tallies"],
        "spreads": state["spreads"],
    }


def _shown(counts: Mapping[str, Any]) -> State:
    """A state of counts alone."""
    return {**counts, "gauges": [], "node": [], "infos": [], "process": []}


def summed(states: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """One state of counts that holds all of these."""
    routes: dict[str, list[Any]] = {}
    tallies: dict[str, list[Any]] = {}
    spreads: dict[str, list[Any]] = {}
    for state in states:
        for route, answers, decided, forwarded in state["routes"]:
            held = routes.setdefault(route, [{}, None, None])
            _count(held[0], answers)
            held[1], held[2] = _spread(held[1], decided), _spread(held[2], forwarded)
        for name, about, labels, children in state["tallies"]:
            _count(tallies.setdefault(name, [about, labels, {}])[2], children)
        for name, about, labels, children in state["spreads"]:
            sums = spreads.setdefault(name, [about, labels, {}])[2]
            for key, plain in children:
                sums[tuple(key)] = _spread(sums.get(tuple(key)), plain)
    return {
        "worker": "",
        "routes": [[name, _pairs(held[0]), *held[1:]] for name, held in routes.items()],
        "tallies": [[name, *held[:2], _pairs(held[2])] for name, held in tallies.items()],
        "spreads": [[name, *held[:2], _pairs(held[2])] for name, held in spreads.items()],
    }


def _count(sums: dict[tuple[Any, ...], int], counted: Iterable[Sequence[Any]]) -> None:
    for key, n in counted:
        sums[tuple(key)] = sums.get(tuple(key), 0) + n


def _spread(held: list[Any] | None, plain: list[Any]) -> list[Any]:
    """Bounds, counts and total of both."""
    if held is None:
        return plain
    counts = [a + b for a, b in zip(held[1], plain[1], strict=True)]
    return [held[0], counts, held[2] + plain[2]]


def _pairs(sums: Mapping[tuple[Any, ...], Any]) -> list[list[Any]]:
    return [[list(key), value] for key, value in sums.items()]
