"""`python -m bench.report [RESULTS.json]`: puts the figures of a run into docs/performance.md.

The table stands between two markers there, the bars in docs/performance.svg beside it.
"""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.peers import PEERS
from bench.peers.builds import PURE
from bench.plot import drawn
from bench.results import US
from bench.rig import HERE

PAGE = HERE.parent / "docs" / "performance.md"
BEGIN, END = "<!-- bench: begin -->\n", "<!-- bench: end -->\n"


def table(document: dict[str, Any]) -> str:
    does = {peer.name: peer.does for peer in PEERS} | {PURE: "its sources, not compiled"}
    about = document["about"]
    lines = [
        f"{datetime.now(UTC):%Y-%m-%d}, {about['cpu']}, kernel {about['kernel']}, Python"
        f" {about['python']}, the {about['build']} build; medians of {about['rounds']}"
        f" rounds of {about['seconds']:g} s.",
        "",
        "| peer | what it does | req/s | the gateway is | CPU µs a request | of it the kernel's |"
        " p99 ms |",
        "|---|---|--:|--:|--:|--:|--:|",
    ]
    for name, figures in sorted(
        document["peers"].items(), key=lambda item: -item[1]["requests_a_s"]
    ):
        bold = "**" if name == US else ""
        times = figures["gateway_times"]
        lines.append(
            f"| {bold}{name}{bold} | {does.get(name, '')} | {figures['requests_a_s']:,.0f} |"
            f" {'' if times is None or name == US else f'{times:.2f} ×'} |"
            f" {figures['cpu_us']:.1f} | {figures['kernel_us']:.1f} | {figures['p99_ms']:.1f} |"
        )
    for name, cure in document["missing"].items():
        lines.append(f"| {name} | not measured: {cure} | | | | | |")
    lines += ["", "| against | at least | aim | reached |", "|---|--:|--:|--:|"]
    for goal in document.get("goals", []):
        reached = "not measured" if goal["reached"] is None else f"{goal['reached']:.2f} ×"
        least, aim = goal["at_least"], goal["aim"]
        lines.append(f"| {goal['what']} | {least:g} × | {aim:g} × | {reached} |")
    return "\n".join(lines) + "\n"


def main(source: Path) -> None:
    document = json.loads(source.read_text())
    page = PAGE.read_text()
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(before + BEGIN + table(document) + END + after)
    PAGE.with_suffix(".svg").write_text(drawn(document))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / ".rig" / "results.json")
