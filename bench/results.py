"""The figures of a run: medians, ratios to the gateway, as a table and as JSON."""

from __future__ import annotations

import json
import platform
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.panel import Panel
from rich.table import Table

from bench.load import Round
from bench.peers import Peer
from bench.peers.builds import PURE

US = "gateway"
GOALS = (
    ("naive", 11.0, 15.0),
    ("haproxy", 1.5, 2.0),
    ("envoy", 2.4, 3.3),
    ("envoy-cache", 1.6, 2.0),
    ("nginx-lua-cache", 0.85, 1.1),
    ("plain-nginx", 0.55, 0.75),
)
"""How many times a peer's requests per second the compiled gateway must reach, and may hope to."""
PURE_GOALS = (("haproxy", 1.2, 1.4),)
"""And its sources alone."""


def is_ours(peer: str) -> bool:
    """Whether it is the gateway, of whichever build and however it is asked."""
    return peer.startswith(US)


@dataclass(frozen=True, slots=True)
class Verdict:
    """One goal, and what was reached; `reached` None where a side of it was not measured."""

    what: str
    at_least: float
    aim: float
    reached: float | None

    @property
    def missed(self) -> bool:
        return self.reached is not None and self.reached < self.at_least

    def __str__(self) -> str:
        if self.reached is None:
            return f"{self.what}: not measured"
        word = "missed" if self.missed else "aim reached" if self.reached >= self.aim else "reached"
        return (
            f"{self.what}: {self.reached:.2f} × (at least {self.at_least:g}, "
            f"aim {self.aim:g}): {word}"
        )


@dataclass
class Results:
    rounds: dict[str, list[Round]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    faults: dict[str, list[str]] = field(default_factory=dict)
    about: dict[str, Any] = field(default_factory=dict)

    def add(self, peer: str, measured: Round) -> None:
        self.rounds.setdefault(peer, []).append(measured)

    def median(self, peer: str, figure: str) -> float:
        return float(median(getattr(one, figure) for one in self.rounds[peer]))

    def ratio(self, peer: str, ours: str = US) -> float | None:
        """Our requests per second over the peer's: the median of the ratios of each
        round, since what disturbs the machine disturbs neighbours in time alike."""
        if not self.rounds.get(ours) or not self.rounds.get(peer):
            return None
        pairs = zip(self.rounds[ours], self.rounds[peer], strict=False)
        return median(ours.requests_a_s / theirs.requests_a_s for ours, theirs in pairs)

    def as_json(self) -> str:
        peers = {
            name: {
                "requests_a_s": round(self.median(name, "requests_a_s"), 1),
                "cpu_us": round(self.median(name, "cpu_us"), 2),
                "kernel_us": round(self.median(name, "kernel_us"), 2),
                "p50_ms": round(self.median(name, "p50_ms"), 3),
                "p99_ms": round(self.median(name, "p99_ms"), 3),
                "gateway_times": None if (r := self.ratio(name)) is None else round(r, 3),
                "rounds": [one.as_json() for one in rounds],
            }
            for name, rounds in self.rounds.items()
        }
        document = {
            "about": self.about,
            "peers": peers,
            "missing": self.missing,
            "faults": self.faults,
            "goals": [asdict(verdict) for verdict in self.goals()],
        }
        return json.dumps(document, indent=1)

    def goals(self) -> list[Verdict]:
        """Those of the compiled build, and those of the sources alone."""
        is_pure = self.about.get("build") == "pure"
        found = (
            []
            if is_pure
            else [Verdict(peer, at_least, aim, self.ratio(peer)) for peer, at_least, aim in GOALS]
        )
        for peer, at_least, aim in PURE_GOALS:
            reached = self.ratio(peer, US if is_pure else PURE)
            found.append(Verdict(f"{peer}, the pure build", at_least, aim, reached))
        return found


def machine() -> dict[str, Any]:
    cpu = "unknown"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            cpu = line.partition(":")[2].strip()
            break
    return {"cpu": cpu, "kernel": platform.release(), "python": platform.python_version()}


def show(results: Results, peers: tuple[Peer, ...], console: Console) -> None:
    table = Table(title="One core, authenticated GET of 200 bytes, 64 connections, 1,000 tokens")
    table.add_column("peer")
    table.add_column("what it does")
    for name in ("req/s", "gateway is", "CPU µs/req", "kernel µs", "p50 ms", "p99 ms"):
        table.add_column(name, justify="right")
    for peer in sorted(peers, key=lambda p: -_speed(results, p.name)):
        if peer.name not in results.rounds:
            continue
        ratio = results.ratio(peer.name)
        errors = sum(one.refused + one.broken for one in results.rounds[peer.name])
        style = "bold" if is_ours(peer.name) else "dim" if not peer.judges else ""
        table.add_row(
            peer.name,
            peer.does + (f" [red]{errors} errors[/]" if errors else ""),
            f"{_speed(results, peer.name):,.0f}",
            "" if ratio is None else f"{ratio:.2f} ×",
            f"{results.median(peer.name, 'cpu_us'):.1f}",
            f"{results.median(peer.name, 'kernel_us'):.1f}",
            f"{results.median(peer.name, 'p50_ms'):.2f}",
            f"{results.median(peer.name, 'p99_ms'):.2f}",
            style=style,
        )
    console.print(table)
    for verdict in results.goals():
        if verdict.reached is not None:
            style = "red" if verdict.missed else "green"
            console.print(str(verdict), style=style, highlight=False)
    for name, faults in results.faults.items():
        text = "\n".join(faults)
        console.print(Panel(text, title=f"{name} does not do its work", border_style="red"))
    for name, cure in results.missing.items():
        console.print(
            Panel(f"not measured; to have it: [bold]{cure}[/]", title=name, border_style="yellow")
        )


def _speed(results: Results, peer: str) -> float:
    return results.median(peer, "requests_a_s") if peer in results.rounds else 0.0
