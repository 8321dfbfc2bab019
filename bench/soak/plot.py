"""`python -m bench.soak.plot SOAK.json OUT.svg`: availability, latency and memory over time, with
the events marked.  Colours alone carry nothing: each line has its name."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

WIDTH, LEFT, RIGHT = 960, 132, 16
PANEL, GAP, TOP = 150, 44, 56
ROW = 14
"""Height of a kind of event."""
COLOURS = ("#1f6feb", "#cf222e", "#1a7f37", "#8250df", "#bf8700", "#6e7781")
Points = Sequence[Sequence[float]]


class _Panel:
    """One picture of the three, between its own bounds."""

    def __init__(self, top: int, title: str, bounds: tuple[float, float], seconds: float) -> None:
        self.top, self.title, self.seconds = top, title, seconds
        self.low, self.high = bounds

    def x(self, at: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * at / self.seconds

    def y(self, value: float) -> float:
        share = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return self.top + PANEL * (1 - share)

    def frame(self, ticks: Sequence[float], unit: str) -> list[str]:
        lines = [
            f'<text x="{LEFT}" y="{self.top - 10}" font-weight="600">{escape(self.title)}</text>'
        ]
        for tick in ticks:
            y = self.y(tick)
            lines += [
                f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"'
                ' stroke="#d0d7de"/>',
                f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end" fill="#57606a">'
                f"{tick:g}{unit}</text>",
            ]
        return lines

    def line(self, points: Points, colour: str) -> str:
        path = " ".join(f"{self.x(at):.1f},{self.y(value):.1f}" for at, value in points)
        return f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.3"/>'


def drawn(document: dict[str, Any]) -> str:
    plot, seconds = document["plot"], float(document["about"]["seconds"]) or 1.0
    first = TOP
    available = _Panel(first, "Probes answered, of each step", (0.0, 100.0), seconds)
    latency_top = first + PANEL + GAP
    p99 = [value for _, value in plot["p99_ms"]] or [1.0]
    most_ms = sorted(p99)[int(len(p99) * 0.98)] if len(p99) > 1 else p99[0]
    latency = _Panel(latency_top, "Latency of calls, ms", (0.0, max(most_ms, 10.0)), seconds)
    memory_top = latency_top + PANEL + GAP
    most_mb = max([mb for line in plot["memory_mb"].values() for _, mb in line], default=1.0)
    bounds = (round(most_mb * 0.8), round(most_mb * 1.05) + 1)
    memory = _Panel(memory_top, "Resident memory of each worker, MB (not from 0)", bounds, seconds)
    events_top = memory_top + PANEL + GAP
    kinds = list(dict.fromkeys(one["kind"] for one in document["events"]))
    height = events_top + ROW * len(kinds) + 40
    minutes = f"{seconds / 60:.0f} minutes"
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img"'
        ' font-family="system-ui, sans-serif" font-size="11">',
        f"<title>Availability, latency and memory over {minutes} of faults</title>",
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<text x="12" y="22" font-size="14" font-weight="600">{minutes} of mixed traffic on two'
        " nodes, with whatever breaks</text>",
    ]
    for one in document["events"]:
        x = available.x(one["at_s"])
        width = max(available.x(one["healed_after_s"]) - LEFT, 1.0)
        lines.append(
            f'<rect x="{x:.1f}" y="{first}" width="{width:.1f}"'
            f' height="{memory_top + PANEL - first}" fill="#eaeef2" fill-opacity="0.6"/>'
        )
    lines += available.frame((0, 50, 90, 100), " %")
    lines.append(
        available.line([(at, share * 100) for at, share in plot["availability"]], COLOURS[0])
    )
    lines += latency.frame((0, round(latency.high / 2), round(latency.high)), "")
    lines.append(latency.line(plot["p99_ms"], COLOURS[1]))
    lines.append(latency.line(plot["p50_ms"], COLOURS[0]))
    lines.append(_named(latency_top - 10, (("median", COLOURS[0]), ("p99", COLOURS[1]))))
    lines += memory.frame((bounds[0], (bounds[0] + bounds[1]) // 2, bounds[1]), "")
    named = []
    for number, (name, points) in enumerate(plot["memory_mb"].items()):
        colour = COLOURS[number % len(COLOURS)]
        lines.append(memory.line(points, colour))
        if points[-1][0] - points[0][0] > seconds / 2:
            named.append((name, colour))
    lines.append(_named(memory_top - 10, named))
    lines.append(
        f'<text x="{LEFT}" y="{events_top - 10}" font-weight="600">Events, until they had'
        " healed</text>"
    )
    lines += _events(document["events"], kinds, available, events_top)
    return "\n".join([*lines, "</svg>", ""])


def _named(y: int, names: Sequence[tuple[str, str]]) -> str:
    parts = [f'<tspan fill="{colour}">{escape(name)}</tspan>' for name, colour in names]
    return (
        f'<text x="{WIDTH - RIGHT}" y="{y}" text-anchor="end">'
        + '<tspan fill="#57606a"> · </tspan>'.join(parts)
        + "</text>"
    )


def _events(
    events: Sequence[dict[str, Any]], kinds: Sequence[str], scale: _Panel, top: int
) -> list[str]:
    lines = []
    for row, kind in enumerate(kinds):
        y = top + ROW * row + 8
        lines.append(
            f'<text x="{LEFT - 6}" y="{y}" text-anchor="end" fill="#57606a" font-size="9.5">'
            f"{escape(kind)}</text>"
        )
        lines += [
            f'<rect x="{scale.x(one["at_s"]):.1f}" y="{y - 8}" height="9"'
            f' width="{max(scale.x(one["healed_after_s"]) - LEFT, 1.5):.1f}" fill="{COLOURS[3]}"/>'
            for one in events
            if one["kind"] == kind
        ]
    y = top + ROW * len(kinds) + 22
    for part in range(7):
        at = scale.seconds * part / 6
        minutes = f"{at / 60:.1f}".removesuffix(".0")
        lines.append(
            f'<text x="{scale.x(at):.1f}" y="{y}" text-anchor="middle" fill="#57606a">'
            f"{minutes} min</text>"
        )
    return lines


if __name__ == "__main__":
    source, target = Path(sys.argv[1]), Path(sys.argv[2])
    target.write_text(drawn(json.loads(source.read_text())))
