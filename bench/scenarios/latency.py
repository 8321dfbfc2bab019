"""Latency while half of what a peer can do is asked of it: an open loop."""

from __future__ import annotations

from bench.load import PATH, Round, check, load
from bench.peers import Peer, Shape
from bench.processes import Started
from bench.results import US
from bench.rig import Rig
from bench.scenarios.loads import by_client
from bench.scenarios.model import P99, Entry, Goal, Scenario
from bench.scenarios.traffic import named

CALIBRATION_S = 2.0
OWN, SAME = "at half of its own", "at half of the slower of gateway and HAProxy"


class HalfOfSaturation:
    """Each peer is first asked for as much as it can do: in the turn that warms up."""

    def __init__(self) -> None:
        self._most: dict[str, float] = {}

    def own(self, rig: Rig, peer: Peer, process: Started, seconds: float) -> Round:
        return self._at(self._saturated(rig, peer, process), rig, peer, process, seconds)

    def same(self, rig: Rig, peer: Peer, process: Started, seconds: float) -> Round:
        self._saturated(rig, peer, process)
        pair = [rate for name, rate in self._most.items() if name in (US, "haproxy")]
        return self._at(min(pair or self._most.values()), rig, peer, process, seconds)

    def _saturated(self, rig: Rig, peer: Peer, process: Started) -> float:
        if peer.name not in self._most:
            self._most[peer.name] = load(rig, peer, process, CALIBRATION_S, path=PATH).requests_a_s
        return self._most[peer.name]

    def _at(self, most: float, rig: Rig, peer: Peer, process: Started, seconds: float) -> Round:
        rate = f"{most / 2:.0f}"
        return by_client(rig, peer, process, seconds, "open_loop", rate, str(seconds))


def entries(rig: Rig) -> list[Entry]:
    del rig
    half = HalfOfSaturation()
    peers = named("gateway haproxy nginx-lua-cache envoy-cache", Shape())
    return [
        Entry(peer, load_, check, variant)
        for variant, load_ in ((OWN, half.own), (SAME, half.same))
        for peer in peers
    ]


LATENCY = Scenario(
    "latency",
    "Latency at half of saturation",
    "Requests of the main table that begin when they are due (at random, as many a second in "
    "the mean as half of what wrk has just got out of the peer), over 64 kept connections, "
    "whatever became of those before. The time of one that has to wait for a connection runs "
    "from when it was due, so nothing is left out by a client that waited with its peer "
    "(coordinated omission). No package of Debian does that at this rate (`wrk2`, `vegeta` and "
    "`k6` are not in it, `hey` is a closed loop): `bench/scenarios/clients/open_loop.py` does. "
    "What is compared is p99.",
    entries,
    compared=P99,
    tails=True,
    seconds=3.0,
    goals=(Goal("haproxy", 1.0, 1.0, OWN),),
    takes_s=115,
)
