"""The figures of a scenario: medians, ratios of each round, goals; as a table and as JSON."""

from __future__ import annotations

from dataclasses import asdict
from statistics import median
from typing import Any

from rich.console import Console
from rich.panel import Panel
from rich.table import Table

from bench.load import Round
from bench.results import US, Verdict, is_ours
from bench.scenarios.model import RATE, Figures, Scenario


def median_of(rounds: list[Round], figure: str) -> float:
    return float(median(getattr(one, figure) for one in rounds))


def times(figure: str, ours: list[Round], theirs: list[Round]) -> float | None:
    """How many times better ours are: the median of the ratios of each round, since what
    disturbs the machine disturbs neighbours in time alike.  Of a rate more is better, of
    everything else less.  None where one of them did nothing at all."""
    pairs = [(getattr(a, figure), getattr(b, figure)) for a, b in zip(ours, theirs, strict=False)]
    if figure != RATE:
        pairs = [(b, a) for a, b in pairs]
    ratios = [a / b for a, b in pairs if b]
    return float(median(ratios)) if ratios else None


def ratio(scenario: Scenario, figures: Figures, variant: str, peer: str) -> float | None:
    ours = figures.rounds.get((variant, US))
    theirs = figures.rounds.get((variant, peer))
    if not ours or not theirs:
        return None
    return times(scenario.compared, ours, theirs)


def verdicts(scenario: Scenario, figures: Figures) -> list[Verdict]:
    found = []
    for goal in scenario.goals:
        what = f"{scenario.name}{f', {goal.variant}' if goal.variant else ''}: {goal.peer}"
        reached = ratio(scenario, figures, goal.variant, goal.peer)
        found.append(Verdict(what, goal.at_least, goal.aim, reached))
    for flat in scenario.flat:
        ours = figures.rounds.get((flat.variant, US))
        beside = figures.rounds.get((flat.beside, US))
        reached = times(RATE, ours, beside) if ours and beside else None
        what = f"{scenario.name}: {flat.variant} beside {flat.beside}"
        found.append(Verdict(what, flat.at_least, flat.aim, reached))
    return found


def errors(rounds: list[Round]) -> int:
    return sum(one.refused + one.broken for one in rounds)


def as_document(scenario: Scenario, figures: Figures) -> dict[str, Any]:
    rows = []
    for (variant, peer), rounds in figures.rounds.items():
        names = ("requests_a_s", "cpu_us", "kernel_us", "p50_ms", "p99_ms", "p999_ms")
        row: dict[str, Any] = {name: round(median_of(rounds, name), 3) for name in names}
        times_ = ratio(scenario, figures, variant, peer)
        rows.append(
            {"variant": variant, "peer": peer, "does": figures.does.get(peer, "")}
            | row
            | {"gateway_times": None if times_ is None else round(times_, 3)}
            | {"errors": errors(rounds), "rounds": [one.as_json() for one in rounds]}
        )
    return {
        "name": scenario.name,
        "rows": rows,
        "goals": [asdict(verdict) for verdict in verdicts(scenario, figures)],
        "missing": figures.missing,
        "faults": figures.faults,
        "took_s": round(figures.took_s),
    }


def show(scenario: Scenario, figures: Figures, console: Console) -> None:
    table = Table(title=scenario.title)
    has_variants = any(variant for variant, _ in figures.rounds)
    if has_variants:
        table.add_column("")
    table.add_column("peer")
    tails = ("p50 ms", "p99 ms", "p99.9 ms") if scenario.tails else ("p99 ms",)
    for name in (scenario.unit, "gateway is", "CPU µs each", *tails):
        table.add_column(name, justify="right")
    last = None
    for (variant, peer), rounds in figures.rounds.items():
        reached = ratio(scenario, figures, variant, peer)
        wrong = errors(rounds)
        shown = ["p50_ms", "p99_ms", "p999_ms"] if scenario.tails else ["p99_ms"]
        cells = [
            peer + (f" [red]{wrong} errors[/]" if wrong else ""),
            f"{median_of(rounds, RATE):,.0f}",
            "" if reached is None or peer == US else f"{reached:.2f} ×",
            f"{median_of(rounds, 'cpu_us'):,.1f}",
            *(f"{median_of(rounds, name):.2f}" for name in shown),
        ]
        if has_variants:
            cells.insert(0, "" if variant == last else variant)
        table.add_row(*cells, style="bold" if is_ours(peer) else "")
        last = variant
    console.print(table)
    for verdict in verdicts(scenario, figures):
        console.print(str(verdict), style="red" if verdict.missed else "", highlight=False)
    for name, faults in figures.faults.items():
        text = "\n".join(faults)
        console.print(Panel(text, title=f"{name} does not do its work", border_style="red"))
    for name, cure in figures.missing.items():
        console.print(
            Panel(f"not measured; to have it: [bold]{cure}[/]", title=name, border_style="yellow")
        )
