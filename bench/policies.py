"""How loading, matching and deciding grow with the size of the configuration.

    python bench/policies.py [--sizes 10,100,1000,10000] [--plot docs/policies/scale.svg]

Everything runs in this process; the reload is done as a worker does it, in a thread while a
loop counts how long it was kept from running.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import random
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gateway.access.authorizer import Authorizer
from gateway.access.simulation import (
    FixedAuthenticator,
    FixedClock,
    NoLimits,
    SimulatedRequest,
    person,
    run_sync,
    simulated_call,
)
from gateway.access.snapshot import Snapshot
from gateway.config.compile import Sources, compile_snapshot
from gateway.model import Call, Reason

ROUNDS = 15


def sources(routes: int) -> Sources:
    """`routes` routes and a tenth as many policies: literals, parameters, hosts and methods."""
    policies = max(1, routes // 10)
    lines = [
        "version: 1",
        "upstreams: {api: {targets: [http://127.0.0.1:9001]}}",
        "limits: {per-user: {key: user, rate: 600/1m}}",
        "routes:",
    ]
    for number in range(routes):
        shape = (
            f"/v1/area{number}/users/{{user_id}}/orders/{{order_id}}",
            f"/v1/tenants/{{tenant}}/area{number}/{{user_id:int}}",
            f"/v2/area{number}/{{rest:path}}",
            f"/v3/area{number}/fixed/path/of/some/length",
        )[number % 4]
        owner = "user_id" if "{user_id" in shape else ""
        lines += [
            f"  - id: route-{number}",
            f'    match: {{path: "{shape}", methods: [{("GET", "POST")[number % 2]}]}}',
            f"    policy: policy-{number % policies}",
            f"    action: area{number}:read",
            f'    resource: {{type: thing, owner: "{{{owner}}}"}}'
            if owner
            else "    resource: {type: thing, owner: nobody}",
            "    upstream: api",
        ]
    files = tuple(
        (
            f"policies/policy-{number:05}.yaml",
            f"""version: 1
policy: policy-{number}
roles:
  viewer: ["*:read"]
  manager: {{inherits: [viewer], permissions: ["*"]}}
rules:
  - id: own
    allow: ["*"]
    when: resource.owner == user.id
  - id: by-role
    allow: role-permissions
""",
        )
        for number in range(policies)
    )
    return Sources(("routes.yaml", "\n".join(lines) + "\n"), files)


def measured(routes: int) -> dict[str, float]:
    """One size, in a process of its own: memory can only be told so."""
    texts = sources(routes)
    gc.collect()
    before = _rss_mb()
    # The time of this process: what else the machine does is not measured with it.
    began = time.process_time()
    gc.disable()
    snapshot = compile_snapshot(texts)
    gc.enable()
    load_s = time.process_time() - began
    assert isinstance(snapshot, Snapshot), snapshot[:3]
    gc.freeze()
    memory = _rss_mb() - before
    # Paths that were not asked for before: of those that were, the table remembers the route.
    fresh = [_calls(routes, number) for number in range(2 * ROUNDS + 2)]
    return {
        "routes": routes,
        "policies": len(snapshot.policies) - 1,
        "load_s": round(load_s, 3),
        "match_us": round(_match_us(snapshot, fresh[: ROUNDS + 1]), 2),
        "again_us": round(_match_us(snapshot, fresh[:1] * (ROUNDS + 1)), 2),
        "decide_us": round(_decide_us(snapshot, fresh[ROUNDS + 1 :]), 2),
        "memory_mb": round(memory, 1),
        "stall_ms": round(min(asyncio.run(_stall_ms(texts)) for _ in range(3)), 1),
    }


def _calls(routes: int, turn: int) -> list[Call]:
    choose = random.Random(turn)
    found = []
    for serial in range(1000):
        number = choose.randrange(routes) // 4 * 4
        path = f"/v1/area{number}/users/u1/orders/{turn}-{serial}"
        call = simulated_call(SimulatedRequest("GET", path))
        assert not isinstance(call, Reason)
        found.append(call)
    return found


def _match_us(snapshot: Snapshot, turns: list[list[Call]]) -> float:
    match = snapshot.routes.match

    def once(calls: list[Call]) -> None:
        for call in calls:
            match(call.host, call.method, call.segments)

    return _best(once, turns)


def _decide_us(snapshot: Snapshot, turns: list[list[Call]]) -> float:
    """A whole `Authorizer.decide` with one CEL condition, the caller being known."""
    gate = Authorizer(
        FixedAuthenticator(person("u1", now=1_800_000_000)),
        NoLimits(),
        clock=FixedClock(1_800_000_000),
    )

    def once(calls: list[Call]) -> None:
        for call in calls:
            decision = run_sync(gate, call, snapshot)
            if decision.rule != "own":
                raise RuntimeError(str(decision))

    return _best(once, turns)


def _best(once: Callable[[list[Call]], None], turns: list[list[Call]]) -> float:
    """Microseconds a call of the best turn but the first: the machine only ever adds to it."""
    once(turns[0])
    found = []
    for calls in turns[1:]:
        began = time.process_time()
        once(calls)
        found.append((time.process_time() - began) / len(calls))
    return min(found) * 1e6


async def _stall_ms(texts: Sources) -> float:
    """The longest that a loop had to wait while a thread compiled; the best of three loads is
    told, as what else the machine does only adds to it."""
    worst = 0.0
    done = asyncio.Event()

    async def watch() -> None:
        nonlocal worst
        while not done.is_set():
            # What the compiling thread ran while the loop was waiting to: time of this process,
            # so that what else the machine does is not taken for a stall.
            began = time.process_time()
            await asyncio.sleep(0.001)
            worst = max(worst, time.process_time() - began - 0.001)

    def build() -> Any:
        gc.disable()
        try:
            return compile_snapshot(texts)
        finally:
            gc.freeze()
            gc.enable()

    watcher = asyncio.create_task(watch())
    held = await asyncio.to_thread(build)
    done.set()
    await watcher
    assert held is not None
    return worst * 1000


def _rss_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def plot(rows: list[dict[str, float]], target: Path) -> None:
    """The growth as an SVG: both axes logarithmic, each line relative to its first value."""
    import math

    width, height, left, top = 640, 320, 60, 30
    lines = (("load_s", "load", "#b3541e"), ("match_us", "match", "#1f6f8b"),
             ("decide_us", "decide", "#3c7a3c"), ("memory_mb", "memory", "#7a3c7a"))  # fmt: skip
    first, last = math.log10(rows[0]["routes"]), math.log10(rows[-1]["routes"])
    highest = max(
        4.0,
        *(math.log10(max(r[k], 1e-9) / max(rows[0][k], 1e-9)) for r in rows for k, _, _ in lines),
    )

    def x(routes: float) -> float:
        return left + (math.log10(routes) - first) / (last - first or 1) * (width - left - 110)

    def y(ratio: float) -> float:
        return height - 40 - max(0.0, math.log10(max(ratio, 1e-9))) / highest * (height - 40 - top)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<text x="{left}" y="18">growth against the smallest size (both axes logarithmic)</text>',
    ]
    for row in rows:
        at = x(row["routes"])
        parts.append(
            f'<line x1="{at:.0f}" y1="{top}" x2="{at:.0f}" y2="{height - 40}" stroke="#ddd"/>'
        )
        parts.append(
            f'<text x="{at:.0f}" y="{height - 22}" text-anchor="middle">{row["routes"]:,.0f}</text>'
        )
    for power in range(int(highest) + 1):
        at = y(10.0**power)
        parts.append(
            f'<line x1="{left}" y1="{at:.0f}" x2="{width - 110}" y2="{at:.0f}" stroke="#ddd"/>'
        )
        parts.append(
            f'<text x="{left - 6}" y="{at + 4:.0f}" text-anchor="end">×{10**power:,}</text>'
        )
    ends: list[float] = []
    for key, name, colour in lines:
        base = max(rows[0][key], 1e-9)
        points = " ".join(f"{x(r['routes']):.1f},{y(r[key] / base):.1f}" for r in rows)
        parts.append(
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>'
        )
        end = y(rows[-1][key] / base)
        while any(abs(end - other) < 14 for other in ends):
            end -= 14
        ends.append(end)
        parts.append(f'<text x="{width - 104}" y="{end + 4:.0f}" fill="{colour}">{name}</text>')
    parts.append(
        f'<text x="{width // 2}" y="{height - 6}" text-anchor="middle">routes</text></svg>'
    )
    target.write_text("\n".join(parts) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--sizes", default="10,100,1000,10000")
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.one is not None:
        print(json.dumps(measured(chosen.one)))
        return
    rows: list[dict[str, float]] = []
    columns = (
        "routes", "policies", "load_s", "match_us",
        "again_us", "decide_us", "memory_mb", "stall_ms",
    )  # fmt: skip
    print("| " + " | ".join(columns) + " |")
    print("|" + "-:|" * len(columns))
    for size in map(int, chosen.sizes.split(",")):
        done = subprocess.run(
            [sys.executable, __file__, "--one", str(size)], check=True, capture_output=True
        )
        row = json.loads(done.stdout)
        rows.append(row)
        print("| " + " | ".join(f"{row[name]:,}" for name in columns) + " |", flush=True)
    if chosen.plot is not None:
        plot(rows, chosen.plot)


if __name__ == "__main__":
    main()
