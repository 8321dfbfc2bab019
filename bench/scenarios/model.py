"""What a scenario is: peers, the load of each, what each must refuse first, and the goals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from bench.load import Round
from bench.peers import Peer
from bench.processes import Started
from bench.rig import Rig

RATE, CPU, P99 = "requests_a_s", "cpu_us", "p99_ms"

Load = Callable[[Rig, Peer, Started, float], Round]
"""One round of so many seconds on one peer."""
Oracle = Callable[[Rig, Peer], list[str]]
"""What the peer does not do of what it is measured for."""


@dataclass(frozen=True)
class Entry:
    """One row of the table.  Rows of one peer share its process."""

    peer: Peer
    load: Load
    oracle: Oracle
    variant: str = ""


@dataclass(frozen=True, slots=True)
class Goal:
    """How many times `peer` the gateway must be in `variant`, and may hope to be."""

    peer: str
    at_least: float
    aim: float
    variant: str = ""


@dataclass(frozen=True, slots=True)
class Flat:
    """How many times as much as in `beside` the gateway must do in `variant`."""

    variant: str
    beside: str
    at_least: float = 0.95
    aim: float = 1.0


@dataclass(frozen=True)
class Scenario:
    name: str
    title: str
    about: str
    """What is sent, to whom, and what the figures leave out: a paragraph of the page."""
    entries: Callable[[Rig], list[Entry]]
    unit: str = "req/s"
    compared: str = RATE
    """The figure whose ratio is told: how many times better the gateway is."""
    backend: Callable[[Rig], None] = Rig.start_backend
    users: int = 1_000
    seconds: float = 2.0
    warm_s: float = 1.0
    """How long the round is that warms up: until each worker has met each token."""
    goals: tuple[Goal, ...] = ()
    flat: tuple[Flat, ...] = ()
    tails: bool = False
    """Whether the table shows the slowest in a thousand too."""
    takes_s: int = 60
    """At three rounds of the usual length."""


@dataclass
class Figures:
    """The rounds of a scenario, by variant and peer, in the order of its entries."""

    rounds: dict[tuple[str, str], list[Round]] = field(default_factory=dict)
    does: dict[str, str] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    faults: dict[str, list[str]] = field(default_factory=dict)
    took_s: float = 0.0
