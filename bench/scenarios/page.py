"""Puts the figures of scenarios into docs/performance.md, and a plot of each beside it.

Each scenario has markers of its own there, so that one may be measured anew without the others.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from bench.plot import Group, drawn_bars
from bench.results import US, Verdict, is_ours
from bench.scenarios.model import CPU, P99, RATE, Scenario

BEGIN, END = "<!-- scenarios: begin -->\n", "<!-- scenarios: end -->\n"
FOLDER = "performance"
_WORDS = {CPU: "CPU µs each, shorter is better", P99: "p99 in ms, shorter is better"}


def section(scenario: Scenario, document: dict[str, Any], about: dict[str, Any], day: str) -> str:
    figures = document["scenarios"][scenario.name]
    rows = figures["rows"]
    command = f'make bench ARGS="--scenario {scenario.name}"'
    lines = [
        f"<!-- scenario {scenario.name}: begin -->",
        f"### {scenario.title}",
        "",
        scenario.about,
        "",
        f"`{command}`: {figures['took_s']} s. {day}, {about['cpu']}, Python {about['python']}, the "
        f"{about['build']} build; medians of {about['rounds']} rounds of {figures['seconds']:g} s.",
        "",
        *_table(scenario, rows),
    ]
    for goal in figures["goals"]:
        if goal["reached"] is not None:
            lines += ["", f"- {Verdict(**goal)}"]
    for name, cure in figures["missing"].items():
        lines += ["", f"- {name} was not measured: {cure}"]
    lines += [
        "",
        f"![{scenario.title}]({FOLDER}/{scenario.name}.svg)",
        f"<!-- scenario {scenario.name}: end -->",
        "",
        "",
    ]
    return "\n".join(lines)


def _table(scenario: Scenario, rows: list[dict[str, Any]]) -> list[str]:
    with_variants = any(row["variant"] for row in rows)
    tails = ["p50 ms", "p99 ms", "p99.9 ms"] if scenario.tails else ["p99 ms"]
    heads = ["peer", scenario.unit, "the gateway is", "CPU µs each", *tails]
    aligned = ["---", *["--:"] * (len(heads) - 1)]
    if with_variants:
        heads, aligned = ["", *heads], ["---", *aligned]
    lines = [f"| {' | '.join(heads)} |", f"|{'|'.join(aligned)}|"]
    last = None
    for row in rows:
        peer, bold = row["peer"], "**" if is_ours(row["peer"]) else ""
        times = row["gateway_times"]
        figures = ("p50_ms", "p99_ms", "p999_ms") if scenario.tails else ("p99_ms",)
        cells = [
            f"{bold}{peer}{bold}" + (f" ({row['errors']} errors)" if row["errors"] else ""),
            f"{row['requests_a_s']:,.0f}",
            "" if times is None or peer == US else f"{times:.2f} ×",
            f"{row['cpu_us']:,.1f}",
            *("" if not row[name] else f"{row[name]:.1f}" for name in figures),
        ]
        if with_variants:
            cells.insert(0, "" if row["variant"] == last else row["variant"])
        lines.append(f"| {' | '.join(cells)} |")
        last = row["variant"]
    return lines


def contents(scenarios: tuple[Scenario, ...]) -> list[str]:
    """All of them, measured or not, with how long they take."""
    lines = ["| scenario | what | takes about |", "|---|---|--:|"]
    lines += [f"| `{one.name}` | {one.title} | {one.takes_s} s |" for one in scenarios]
    return lines


def plotted(scenario: Scenario, rows: list[dict[str, Any]]) -> str:
    groups: dict[str, list[tuple[str, float]]] = {}
    for row in rows:
        groups.setdefault(row["variant"], []).append((row["peer"], row[scenario.compared]))
    what = scenario.unit if scenario.compared == RATE else _WORDS[scenario.compared]
    return drawn_bars(
        scenario.title,
        f"{scenario.title}: {what}",
        [Group(variant, bars) for variant, bars in groups.items()],
    )


def write(page: Path, scenarios: tuple[Scenario, ...], document: dict[str, Any], day: str) -> None:
    """Those of `document`; of the others what the page had, all in the order of `scenarios`."""
    text = page.read_text()
    before, begin, rest = text.partition(BEGIN)
    held, end, after = rest.partition(END)
    if not begin or not end:
        raise RuntimeError(f"{page} has no place for scenarios: {BEGIN.strip()}")
    folder = page.parent / FOLDER
    folder.mkdir(exist_ok=True)
    parts = []
    for scenario in scenarios:
        figures = document["scenarios"].get(scenario.name)
        if figures and figures["rows"]:
            parts.append(section(scenario, document, document["about"], day))
            (folder / f"{scenario.name}.svg").write_text(plotted(scenario, figures["rows"]))
            continue
        name = re.escape(scenario.name)
        markers = rf"<!-- scenario {name}: begin -->.*?<!-- scenario {name}: end -->\n\n?"
        if found := re.search(markers, held, re.DOTALL):
            parts.append(found[0])
    text = "\n".join(contents(scenarios)) + "\n\n" + "".join(parts)
    page.write_text(before + BEGIN + text + END + after)
