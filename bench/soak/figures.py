"""What came out, held against what was promised."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

from bench.cluster import percentile
from bench.results import machine
from bench.soak.consequences import TABLE, Happened, Kind, unexpected
from bench.soak.oracle import Oracle, Subject, Verdict
from bench.soak.probes import AGAIN, PLAIN, SHIPPED, Probes
from bench.soak.samples import Growth, Samples
from bench.soak.schedule import SHORT_S, opening_s
from bench.soak.stalls import Stalls

AVAILABLE = 0.999
GROWTH = 0.02
DESCRIPTORS = 40
"""More than at the end of the opening: connections that happen to be open."""
SHORT_AVAILABLE = 0.90
"""Of a run of minutes, in which each kind of event happens with no rest between them."""
SHORT_UNEXPECTED = 0.005
"""Of the answers of such a run: its machine may be shared, and nobody repeats it for that."""


@dataclass(frozen=True, slots=True)
class Goal:
    name: str
    figure: str
    wanted: str
    reached: bool


@dataclass
class Figures:
    seconds: float
    """How long there was traffic."""
    oracle: Oracle
    probes: Probes
    samples: Samples
    events: list[Happened]
    stalls: Stalls
    left_out: list[Kind]
    """Events that were planned, and for which the machine was too slow."""
    settings: dict[str, Any]
    lost: list[str] = field(default_factory=list)
    """Writes that were acknowledged and were not there when the run was over."""
    looked_for: int = 0

    @property
    def is_short(self) -> bool:
        return self.seconds < SHORT_S

    def growth(self) -> list[Growth]:
        return self.samples.growth(self.measured_from_s, self.seconds)

    @property
    def measured_from_s(self) -> float:
        """The end of the opening: as planned, or when the first node had been ended last."""
        ended = [one for one in self.events if one.ends_first_node]
        began = self.oracle.began_at
        return max([opening_s(self.seconds), *(one.healed_at - began for one in ended)])

    def unexpected(self) -> Counter[str]:
        """Neither an event explains it, nor that the machine stood still."""
        found = unexpected(self.oracle.unavailable, self.events)
        return Counter(
            f"{one.subject.value}: {one.cause} ({one.kind})"
            for one in found
            if not self.stalls.explains(one)
        )

    def stalled(self) -> int:
        """What only explains itself by the machine that stood still."""
        found = unexpected(self.oracle.unavailable, self.events)
        return sum(map(self.stalls.explains, found))

    def goals(self) -> list[Goal]:
        oracle = self.oracle
        wrong, defects = oracle.total(Verdict.WRONG), oracle.total(Verdict.DEFECT)
        strange = self.unexpected().total()
        available = SHORT_AVAILABLE if self.is_short else AVAILABLE
        may_be = int(oracle.judged * SHORT_UNEXPECTED) if self.is_short else 0
        shares = (
            ("availability, a probe each second", self.probes.availability(SHIPPED)),
            (
                "availability, all calls with live credentials",
                oracle.availability(Subject.CREDENTIAL),
            ),
        )
        goals = [
            Goal("wrong decisions", str(wrong), "0", wrong == 0),
            Goal("answers 500", str(defects), "0", defects == 0),
            Goal(f"lost writes (of {self.looked_for:,})", str(len(self.lost)), "0", not self.lost),
            Goal("unexpected 5xx or cut", str(strange), f"≤ {may_be}", strange <= may_be),
            Goal(
                "events that did not heal or hold",
                str(len(oracle.broken)),
                "0",
                not oracle.broken,
            ),
            # Of a schedule that is so far behind nothing follows.
            Goal(
                "events that had no time",
                str(len(self.left_out)),
                f"≤ {self._may_lack}",
                len(self.left_out) <= self._may_lack,
            ),
            *(
                Goal(name, f"{share:.3%}", f"≥ {available:.1%}", share >= available)
                for name, share in shares
            ),
        ]
        if not self.is_short:
            goals += self._memory_goals()
        return goals

    @property
    def _may_lack(self) -> int:
        """None; of a run of minutes, which is bounded in time, a third of what was planned."""
        return (len(self.left_out) + len(self.events)) // 3 if self.is_short else 0

    def _memory_goals(self) -> list[Goal]:
        grown = self.growth()
        since = f"from minute {self.measured_from_s / 60:.0f} to {self.seconds / 60:.0f}"
        if not grown:
            return [Goal("growth of memory", "no worker lived so long", "2 workers", False)]
        rss, pss = max(one.rss for one in grown), max(one.pss for one in grown)
        more = max(one.descriptors for one in grown)
        return [
            Goal(f"growth of RSS a worker {since}", f"{rss:+.2%}", f"< {GROWTH:.0%}", rss < GROWTH),
            Goal(f"growth of PSS a worker {since}", f"{pss:+.2%}", f"< {GROWTH:.0%}", pss < GROWTH),
            Goal(
                "growth of descriptors a worker",
                f"{more:+d}",
                f"≤ {DESCRIPTORS}",
                more <= DESCRIPTORS,
            ),
        ]

    def by_kind(self) -> list[tuple[Kind, int, float, int, str]]:
        """Of each kind of event: how often, the longest until it had healed, failed probes, and
        what was not answered meanwhile."""
        rows = []
        for kind in Kind:
            mine = [one for one in self.events if one.kind is kind]
            if not mine:
                continue
            causes: Counter[str] = Counter()
            for one in self.oracle.unavailable:
                if any(event.explains(one) for event in mine):
                    causes[f"{one.subject.value}: {one.cause}"] += 1
            began = self.oracle.began_at
            missed = sum(
                not probe.good
                for probe in self.probes.found
                if probe.way == SHIPPED
                and any(
                    event.began_at - began - 2 <= probe.at <= event.healed_at - began + 6
                    for event in mine
                )
            )
            told = ", ".join(f"{name} × {count}" for name, count in causes.most_common(6))
            longest = max(event.healed_at - event.began_at for event in mine)
            rows.append((kind, len(mine), longest, missed, told or "nothing"))
        return rows

    def credentials(self) -> list[str]:
        return list(dict.fromkeys(one.credential for one in self.probes.found))

    def as_json(self) -> dict[str, Any]:
        oracle, began = self.oracle, self.oracle.began_at
        took = [seconds for _, seconds in oracle.took_s] or [0.0]
        return {
            "about": machine() | self.settings | {"seconds": round(self.seconds)},
            "goals": [asdict(goal) for goal in self.goals()],
            "judged": oracle.judged,
            "verdicts": {kind: dict(count) for kind, count in sorted(oracle.counts.items())},
            "availability": {
                way: {
                    name: round(self.probes.availability(way, name), 6)
                    for name in ("", *self.credentials())
                }
                for way in (SHIPPED, PLAIN, AGAIN)
            },
            "by_subject": {
                subject.value: round(oracle.availability(subject), 6) for subject in Subject
            },
            "latency_ms": {
                "p50": round(percentile(took, 0.5) * 1000, 1),
                "p99": round(percentile(took, 0.99) * 1000, 1),
                "p99.9": round(percentile(took, 0.999) * 1000, 1),
            },
            "events": [
                {
                    "kind": one.kind.value,
                    "what": one.what,
                    "at_s": round(one.began_at - began, 1),
                    "healed_after_s": round(one.healed_at - one.began_at, 1),
                }
                for one in self.events
            ],
            "unexpected": dict(self.unexpected()),
            "stalls": {
                "times": len(self.stalls.found),
                "seconds": round(self.stalls.seconds(), 1),
                "not_answered": self.stalled(),
            },
            "unavailable": [
                [round(one.at - began, 2), one.subject.value, one.kind, one.cause]
                for one in oracle.unavailable
            ],
            "wrong": oracle.told,
            "lost": self.lost,
            "broken": oracle.broken,
            "left_out": [kind.value for kind in self.left_out],
            "growth": [asdict(one) for one in self.growth()],
            "failed_probes": [asdict(one) for one in self.probes.found if not one.good],
            "plot": self._plotted(),
        }

    def _plotted(self) -> dict[str, Any]:
        """What bench/soak/plot.py draws, in steps that fit into a picture."""
        step = max(self.seconds / 240, 1.0)
        minutes: dict[int, list[bool]] = {}
        for probe in self.probes.found:
            if probe.way == SHIPPED:
                minutes.setdefault(int(probe.at // step), []).append(probe.good)
        slow: dict[int, list[float]] = {}
        for at, seconds in self.oracle.took_s:
            if at > self.seconds:
                continue  # what was looked for when the traffic was over
            slow.setdefault(int(at // step), []).append(seconds)
        memory: dict[str, list[tuple[float, float]]] = {}
        for one in self.samples.found:
            line = memory.setdefault(f"{one.node}, worker {one.worker}", [])
            line.append((round(one.at, 1), round(one.rss / 2**20, 2)))
        return {
            "step_s": step,
            "availability": [
                (n * step, round(sum(each) / len(each), 4)) for n, each in sorted(minutes.items())
            ],
            "p50_ms": [
                (n * step, round(percentile(each, 0.5) * 1000, 2))
                for n, each in sorted(slow.items())
            ],
            "p99_ms": [
                (n * step, round(percentile(each, 0.99) * 1000, 2))
                for n, each in sorted(slow.items())
            ],
            "memory_mb": memory,
        }


def consequences_rows() -> list[tuple[str, str, str]]:
    """The table of what each event may cost, for people."""
    return [(kind.value, one.does, one.promise) for kind, one in TABLE.items()]
