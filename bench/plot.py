"""`python -m bench.plot RESULTS.json OUT.svg`: how many requests each peer does, as bars."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from bench.results import is_ours

BAR, GAP, LEFT, RIGHT, TOP, HEADING = 22, 8, 150, 90, 44, 26
WIDTH = 760
COLOURS = {"gateway": "#1f6feb", "judges": "#8b949e", "plain": "#d0d7de"}
APART = 8.0
"""Groups whose largest bars differ by more than this have each a scale of their own."""


@dataclass(frozen=True, slots=True)
class Group:
    """Bars that belong together; `heading` is empty where there is one group alone."""

    heading: str
    bars: Sequence[tuple[str, float]]

    @property
    def widest(self) -> float:
        return max((value for _, value in self.bars), default=0.0) or 1.0


def drawn(document: dict[str, Any]) -> str:
    peers = sorted(document["peers"].items(), key=lambda item: -item[1]["requests_a_s"])
    bars = [(name, figures["requests_a_s"]) for name, figures in peers]
    title = "Requests a second on one core"
    return drawn_bars(
        title, f"{title} (names that begin with plain judge nothing)", [Group("", bars)]
    )


def drawn_bars(title: str, caption: str, groups: Sequence[Group]) -> str:
    """Colours alone carry nothing: each bar has its name and its figure as text."""
    widest = max(group.widest for group in groups)
    own_scale = widest > APART * min(group.widest for group in groups)
    lines, y = [], TOP
    for group in groups:
        if group.heading:
            heading = f'<text x="12" y="{y + 17}" font-weight="600">{escape(group.heading)}</text>'
            lines.append(heading)
            y += HEADING
        for name, value in group.bars:
            lines += _bar(name, value, value / (group.widest if own_scale else widest), y)
            y += BAR + GAP
    height = y + 10
    head = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img"'
        ' font-family="system-ui, sans-serif" font-size="13">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<text x="12" y="24" font-weight="600">{escape(caption)}</text>',
    ]
    return "\n".join([*head, *lines, "</svg>", ""])


def _bar(name: str, value: float, share: float, y: int) -> list[str]:
    length = (WIDTH - LEFT - RIGHT) * share
    ours = is_ours(name)
    kind = "gateway" if ours else "plain" if "plain-" in name else "judges"
    weight = ' font-weight="600"' if ours else ""
    figure = f"{value:,.0f}" if value >= 100 else f"{value:,.1f}" if value >= 10 else f"{value:.2f}"
    return [
        f'<text x="{LEFT - 8}" y="{y + 16}" text-anchor="end"{weight}>{escape(name)}</text>',
        f'<rect x="{LEFT}" y="{y}" width="{length:.1f}" height="{BAR}" fill="{COLOURS[kind]}"/>',
        f'<text x="{LEFT + length + 6:.1f}" y="{y + 16}"{weight}>{figure}</text>',
    ]


if __name__ == "__main__":
    source, target = Path(sys.argv[1]), Path(sys.argv[2])
    target.write_text(drawn(json.loads(source.read_text())))
