"""When what happens, drawn from a seed.

Memory is measured from the end of the opening (a sixth of the run, ten minutes at most) to the end,
so whatever ends the processes of the first node is in the opening; the second node is killed and
restarted throughout. What costs availability by its nature (`redis away`) happens once.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from bench.soak.consequences import Kind

OPENING_S = 600.0
SHORT_S = 400.0
"""A run that is shorter has each kind of event once and no more."""
ONCE = (Kind.REDIS_AWAY, Kind.ROLLING_RESTART)
ENDS_PROCESSES = (Kind.WORKER_KILLED, Kind.MASTER_KILLED, Kind.NODE_LOST, Kind.NODE_RESTARTED)
BESIDE = (Kind.ISSUER_AWAY, Kind.ISSUER_KEYS, Kind.CLOCK_STEPS)
"""What does nothing to a node or a store goes on beside the others."""
GAP_S = 27.0
QUIET_S = 5.0
"""At the beginning and at the end."""


@dataclass(frozen=True, slots=True)
class Planned:
    at_s: float
    kind: Kind
    node: int


def opening_s(seconds: float) -> float:
    return min(seconds / 6, OPENING_S)


def schedule(seconds: float, seed: int) -> list[Planned]:
    """Each is begun at its time, or when the one before has healed."""
    drawn = random.Random(f"{seed}/schedule")
    if seconds < SHORT_S:
        # To restart both nodes restarts each.
        kinds = [kind for kind in Kind if kind is not Kind.NODE_RESTARTED]
        drawn.shuffle(kinds)
        step = max(seconds - 2 * QUIET_S, 1) / len(kinds)
        return [
            Planned(QUIET_S + n * step, kind, drawn.randrange(2)) for n, kind in enumerate(kinds)
        ]
    first = [(kind, 0) for kind in (*ENDS_PROCESSES[:3], *ONCE)]
    drawn.shuffle(first)
    bag: list[Kind] = []
    planned = []
    step = min(GAP_S, (opening_s(seconds) - QUIET_S) / len(first))
    at_s = QUIET_S
    while at_s < seconds - 20:
        if first:
            kind, node = first.pop()
        else:
            if not bag:
                bag = [kind for kind in Kind if kind not in ONCE]
                drawn.shuffle(bag)
            kind = bag.pop()
            node = 1 if kind in ENDS_PROCESSES else drawn.randrange(2)
        planned.append(Planned(at_s, kind, node))
        at_s += (step if first else GAP_S) * drawn.uniform(0.8, 1.2)
    return planned
