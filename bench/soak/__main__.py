"""`python -m bench.soak --hours H`: 99.9 %, measured.

Exits 1 where a figure is missed, 3 where a program is missing.  `--write docs` writes the plot and
the tables of docs/reliability.md.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from bench.processes import run_bench
from bench.rig import HERE
from bench.soak.figures import Figures
from bench.soak.oracle import Oracle, Verdict
from bench.soak.plot import drawn
from bench.soak.report import show, write
from bench.soak.run import Plan, soak
from bench.soak.town import Missing

MOST_SHOWN = 20
"""Of what is wrong, while it runs; the rest stands in soak.json."""
console = Console(width=None if Console().is_terminal else 130)


def main(
    hours: Annotated[float, typer.Option(min=0, max=48, help="Of traffic.")] = 0.0,
    minutes: Annotated[float, typer.Option(min=0, help="More of it.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Of the schedule and of every caller.")] = 1,
    workers: Annotated[int, typer.Option(min=1, max=8, help="Of each of the two nodes.")] = 2,
    only: Annotated[
        str, typer.Option(help="Events whose name has this in it; `nothing` for none.")
    ] = "",
    folder: Annotated[Path, typer.Option(help="Where soak.json, soak.svg and logs go.")] = (
        HERE / ".rig" / "soak"
    ),
    write_to: Annotated[
        Path | None, typer.Option("--write", help="A folder `docs`: its reliability.* are written.")
    ] = None,
) -> None:
    """Two nodes, real stores, mixed traffic with an oracle, and whatever breaks."""
    seconds = hours * 3600 + minutes * 60 or 3600.0
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    # Servers that run as another user need a folder that this user may enter.
    place = Path(tempfile.mkdtemp(prefix="authgate-soak-"))
    try:
        figures = _watched(place, Plan(seconds, seed, workers, only))
        shutil.copytree(place / "log", folder / "log")
    except Missing as error:
        console.print(str(error), style="red")
        raise typer.Exit(3) from None
    finally:
        if (place / "log").exists() and not (folder / "log").exists():
            shutil.copytree(place / "log", folder / "log")
        shutil.rmtree(place, ignore_errors=True)
    document = figures.as_json()
    (folder / "soak.json").write_text(json.dumps(document, indent=1) + "\n")
    (folder / "soak.svg").write_text(drawn(document))
    show(figures, console)
    console.print(f"{folder}/soak.json, soak.svg, log/", style="dim")
    if write_to is not None:
        write(figures, document, write_to)
    raise typer.Exit(0 if all(goal.reached for goal in figures.goals()) else 1)


def _watched(place: Path, plan: Plan) -> Figures:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[told]}"),
    )
    said, shown = [-60.0], [0]
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("starting", total=plan.seconds, told="")

        def watching(at_s: float, now: str, oracle: Oracle) -> None:
            wrong = oracle.total(Verdict.WRONG) + oracle.total(Verdict.DEFECT)
            told = f"{oracle.judged:,} judged, {wrong} wrong, {len(oracle.unavailable)} unanswered"
            progress.update(task, completed=at_s, description=now or "traffic", told=told)
            for line in oracle.told[shown[0] : MOST_SHOWN]:
                console.print(f"wrong: {line}", style="red", markup=False)
            shown[0] = len(oracle.told)
            if not console.is_terminal and at_s - said[0] >= 60:
                said[0] = at_s
                console.print(f"{at_s / 60:5.1f} min  {told}")

        return soak(place, plan, watching)


if __name__ == "__main__":
    run_bench(main)
