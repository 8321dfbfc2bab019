"""`python -m bench.replay`: how long do 100,000 recorded decisions take to be judged again?

The shop of `examples/` decides a mix of calls (customers, staff, strangers, refused tokens, the
rate passed), the gateway's own writer keeps them, and `gateway replay` judges the log by a copy
of the shop with a stricter and a looser rule.  Exits 1 past ten seconds, or when a line could
not be read.
"""

from __future__ import annotations

import asyncio
import json
import random
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from bench.cluster import program
from bench.processes import run_bench
from bench.rig import HERE
from gateway.access.authorizer import Authorizer
from gateway.access.conditions.context import NO_RESOURCE, RequestedResource
from gateway.access.definitions import Limit
from gateway.access.simulation import (
    FixedAuthenticator,
    FixedClock,
    SimulatedRequest,
    SlowLimiter,
    person,
    run_sync,
    simulated_call,
)
from gateway.access.snapshot import Snapshot
from gateway.config.compile import Sources, compile_snapshot
from gateway.config.files import read_sources
from gateway.limit_state import LimitState
from gateway.model import Call, Principal, Reason
from gateway.telemetry.decision_log import DecisionLog, DecisionLogOptions

console = Console(width=None if Console().is_terminal else 110)
SHOP = HERE.parent / "examples" / "shop"
FOLDER = HERE / ".rig" / "replay"
MOST_S = 10.0
FLUSH_EVERY = 5_000
STARTS_AT = 1_800_000_000.0


class Narrow(SlowLimiter):
    """Limits that one call in a hundred has passed."""

    def __init__(self, choose: random.Random) -> None:
        self._choose = choose

    async def take(
        self,
        limits: Sequence[Limit],
        call: Call,
        principal: Principal | None,
        requested: RequestedResource = NO_RESOURCE,
    ) -> LimitState:
        wait_s = 1.0 if self._choose.random() < 0.01 else 0.0
        return LimitState(wait_s, "", tuple((one.name, 1.0) for one in limits), (1,) * len(limits))


def caller(choose: random.Random, now: float) -> Principal | Reason:
    """One of 2,000 customers, of the staff, nobody, or somebody whose token was refused."""
    number = choose.randrange(2_000)
    draw = choose.random()
    if draw < 0.08:
        return Reason.NO_CREDENTIAL
    if draw < 0.11:
        return choose.choice([Reason.TOKEN_EXPIRED, Reason.TOKEN_REVOKED])
    if draw < 0.16:
        role = choose.choice(["support", "manager", "warehouse"])
        signed_in_at = now - choose.choice([60, 3_600])
        return person(f"staff{number % 20}", [role], now=now, auth_time=signed_in_at)
    roles = ["blocked"] if number % 200 == 0 else []
    verified, email = number % 10 != 0, f"u{number}@example.com"
    return person(f"u{number}", roles, now=now, email=email, email_verified=verified)


def request(choose: random.Random, who: Principal | Reason) -> tuple[str, str]:
    """A method and a path; one customer in fifty tries somebody else's orders."""
    own = who.subject if isinstance(who, Principal) else "u1"
    customer = own if choose.random() > 0.02 else f"u{choose.randrange(2_000)}"
    order = choose.randrange(100_000)
    calls = (
        (30, "GET", f"/catalogue/shoes/{order}"),
        (10, choose.choice(["GET", "POST"]), "/cart"),
        (12, "POST", f"/customers/{customer}/orders"),
        (15, "GET", f"/customers/{customer}/orders"),
        (25, "GET", f"/customers/{customer}/orders/{order}"),
        (2, "POST", f"/customers/{customer}/orders/{order}/refund"),
        (4, choose.choice(["GET", "PUT"]), f"/stock/shoe-{order % 500}"),
        (2, "GET", f"/nowhere/{order}"),
    )
    ((_, method, path),) = choose.choices(calls, weights=[one[0] for one in calls])
    return method, path


async def write_log(folder: Path, decisions: int, snapshot: Snapshot) -> float:
    """The log as a worker writes it, none rotated away; seconds that its writer took."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    choose, clock = random.Random(7), FixedClock(STARTS_AT)
    known = FixedAuthenticator(Reason.NO_CREDENTIAL)
    gate = Authorizer(known, Narrow(choose), clock=clock)
    log = DecisionLog(
        DecisionLogOptions(folder, 1.0, total_bytes=8 << 30, total_files=100),
        clock,
        lambda: snapshot.version,
        name="bench",
    )
    writing_s = 0.0
    for number in range(decisions):
        clock.at += 0.01
        known.caller = caller(choose, clock.at)
        method, path = request(choose, known.caller)
        call = simulated_call(SimulatedRequest(method, path, known.caller))
        assert isinstance(call, Call)
        decision = run_sync(gate, call, snapshot)
        status = 200 if decision.allowed else 403
        log.decided(call, decision, status, f"{number:032x}")
        if number % FLUSH_EVERY == FLUSH_EVERY - 1:
            began = time.perf_counter()
            await log.flush()
            writing_s += time.perf_counter() - began
    await log.flush()
    if log.dropped:
        raise RuntimeError(f"{log.dropped} of {decisions} were dropped")
    return writing_s


def edited(folder: Path) -> Path:
    """The shop with one rule that takes more and one that takes less."""
    shutil.copytree(SHOP, folder)
    policy = folder / "policies" / "orders.yaml"
    text = policy.read_text()
    for before, after in (
        ("resource.owner == user.id", "resource.owner == user.id && user.email_verified"),
        ("max_age: 10m", "max_age: 2h"),
    ):
        assert before in text
        text = text.replace(before, after)
    policy.write_text(text)
    return folder


def replayed(log: Path, against: Path) -> tuple[float, dict[str, Any]]:
    """Seconds of the whole command, starting Python included, and what it said."""
    began = time.perf_counter()
    done = subprocess.run(
        [program(), "replay", str(log), "--against", str(against), "--json"],
        cwd=SHOP, capture_output=True, text=True, check=False,
    )  # fmt: skip
    took_s = time.perf_counter() - began
    if done.returncode != 0:
        raise RuntimeError(f"gateway replay: {done.stdout[-500:]}{done.stderr[-500:]}")
    return took_s, json.loads(done.stdout)


def main(
    decisions: Annotated[int, typer.Option(min=1_000)] = 100_000,
    runs: Annotated[int, typer.Option(min=1, help="The median of so many is told.")] = 3,
) -> None:
    """Write a decision log, and measure how long it takes to judge it again."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    sources = read_sources(SHOP / "routes.yaml", SHOP / "policies")
    assert isinstance(sources, Sources), sources[:3]
    snapshot = compile_snapshot(sources)
    assert isinstance(snapshot, Snapshot), snapshot[:3]
    log = FOLDER / "decisions"
    writing_s = asyncio.run(write_log(log, decisions, snapshot))
    size = sum(file.stat().st_size for file in log.iterdir())
    console.print(
        f"{decisions:,} decisions, {size / 1e6:.1f} MB, written in {writing_s:.1f} s "
        f"({writing_s / decisions * 1e6:.1f} µs each)"
    )
    against, took = edited(FOLDER / "next"), []
    told: dict[str, Any] = {}
    for _ in range(runs):
        seconds, told = replayed(log, against)
        took.append(seconds)
        console.print(f"replayed in {seconds:.2f} s", style="dim")
    table = Table(title=f"gateway replay, median of {runs} runs: {median(took):.2f} s")
    counts = {name: value for name, value in told.items() if isinstance(value, int)}
    for name in counts:
        table.add_column(name.replace("_", " "), justify="right")
    table.add_row(*(f"{value:,}" for value in counts.values()))
    console.print(table)
    figures = {"seconds": round(median(took), 2), "decisions": decisions, **counts}
    (FOLDER / "replay.json").write_text(json.dumps(figures, indent=1) + "\n")
    most_s = MOST_S * decisions / 100_000
    if median(took) > most_s or counts["unreadable"] or not counts["gains"] * counts["loses"]:
        raise typer.Exit(1)


if __name__ == "__main__":
    run_bench(main)
