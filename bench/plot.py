"""`python -m bench.plot RESULTS.json OUT.svg`: how many requests each peer does, as bars."""

from __future__ import annotations

import json
import sys
from html import escape
from pathlib import Path
from typing import Any

BAR, GAP, LEFT, RIGHT, TOP = 22, 8, 150, 90, 44
WIDTH = 760
COLOURS = {"gateway": "#1f6feb", "judges": "#8b949e", "plain": "#d0d7de"}


def drawn(document: dict[str, Any]) -> str:
    """Colours alone carry nothing: each bar has its name and its figure as text."""
    peers = sorted(document["peers"].items(), key=lambda item: -item[1]["requests_a_s"])
    widest = peers[0][1]["requests_a_s"]
    height = TOP + len(peers) * (BAR + GAP) + 10
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img"'
        ' font-family="system-ui, sans-serif" font-size="13">',
        "<title>Requests a second on one core</title>",
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        '<text x="12" y="24" font-weight="600">Requests a second on one core'
        " (names that begin with plain judge nothing)</text>",
    ]
    for row, (name, figures) in enumerate(peers):
        y = TOP + row * (BAR + GAP)
        length = (WIDTH - LEFT - RIGHT) * figures["requests_a_s"] / widest
        kind = "gateway" if name == "gateway" else "plain" if "plain-" in name else "judges"
        weight = ' font-weight="600"' if name == "gateway" else ""
        lines += [
            f'<text x="{LEFT - 8}" y="{y + 16}" text-anchor="end"{weight}>{escape(name)}</text>',
            f'<rect x="{LEFT}" y="{y}" width="{length:.1f}" height="{BAR}"'
            f' fill="{COLOURS[kind]}"/>',
            f'<text x="{LEFT + length + 6:.1f}" y="{y + 16}"{weight}>'
            f"{figures['requests_a_s']:,.0f}</text>",
        ]
    return "\n".join([*lines, "</svg>", ""])


if __name__ == "__main__":
    source, target = Path(sys.argv[1]), Path(sys.argv[2])
    target.write_text(drawn(json.loads(source.read_text())))
