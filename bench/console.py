"""`python -m bench.console`: how soon pages of the operator's console come with many routes.

One worker, embedded stores, 10,000 routes over 40 policies, one connection that is kept, the pages
in turns.  Exits 1 where the 95th percentile of a page is over 200 ms.
"""

from __future__ import annotations

import http.client
import json
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from bench.processes import run_bench
from gateway.edge.console.keyset import cursor
from tests.contract.running import Running, started

console = Console()
POLICIES = 40
PAGE_MAX_S = 0.200
POLICY = """\
version: 1
policy: team{n}
roles:
  viewer: ["team{n}:read"]
  editor: {{inherits: [viewer], permissions: ["team{n}:write"]}}
  owner{n}: ["team{n}:*"]
rules:
  - {{id: by-role, allow: role-permissions}}
  - {{id: own, allow: ["team{n}:*"], when: resource.owner == user.id}}
  - {{id: suspended, deny: ["*"], when: "has_role('suspended')"}}
"""


def routes(count: int) -> str:
    """For `str.format`, as `started` takes it."""
    lines = [
        "version: 1",
        "upstreams:",
        '  echo: {{targets: ["http://127.0.0.1:{port}"]}}',
        "routes:",
    ]
    for number in range(count):
        team, verb = number % POLICIES, ("read", "write")[number % 2]
        lines.append(
            f"  - {{{{id: r{number:05}, match: {{{{path: '/t{team}/i{number}/{{{{owner}}}}'}}}},"
            f" policy: team{team}, action: 'team{team}:{verb}',"
            f" resource: {{{{owner: '{{{{owner}}}}'}}}}, upstream: echo}}}}"
        )
    return "\n".join(lines) + "\n"


def pages(count: int) -> dict[str, str]:
    middle = cursor(f"r{count // 2:05}")
    return {
        "overview": "/admin",
        "reach, first page": "/admin/reach?person=ada@example.com",
        "reach, in the middle": f"/admin/reach?after={middle}",
        "reach, search": "/admin/reach?q=t7/i9",
        "reach, nothing found": "/admin/reach?q=zzzz",
        "explain, denied": f"/admin/explain?method=GET&url=/t1/i{count // 2 + 1}/u2&id=u1",
        "live": "/admin/live",
    }


def measure(gateway: Running, rounds: int, asked: dict[str, str]) -> dict[str, dict[str, float]]:
    token = (gateway.folder / "data" / "admin-token").read_text().strip()
    connection = http.client.HTTPConnection("127.0.0.1", gateway.admin_port, timeout=60)
    seconds: dict[str, list[float]] = {page: [] for page in asked}
    lengths: dict[str, int] = {}
    for number in range(rounds + 2):
        for page, path in asked.items():
            began_at = time.perf_counter()
            connection.request("GET", path, headers={"Authorization": f"Bearer {token}"})
            answer = connection.getresponse()
            lengths[page] = len(answer.read())
            took_s = time.perf_counter() - began_at
            assert answer.status == 200, (page, answer.status)
            if number >= 2:
                seconds[page].append(took_s)
    connection.close()
    return {
        page: {
            "p50_ms": round(sorted(took)[len(took) // 2] * 1000, 1),
            "p95_ms": round(sorted(took)[int(len(took) * 0.95)] * 1000, 1),
            "bytes": lengths[page],
        }
        for page, took in seconds.items()
    }


def main(
    count: Annotated[int, typer.Option("--routes", help="How many routes there are.")] = 10_000,
    rounds: Annotated[int, typer.Option(help="How often each page is asked for.")] = 40,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "g"
        with started(place, routes=routes(0).replace("routes:\n", "routes: []\n")) as gateway:
            gateway.sign_in("ada@example.com")
            for n in range(POLICIES):
                (gateway.folder / "policies" / f"team{n}.yaml").write_text(POLICY.format(n=n))
            text = routes(count).format(port=gateway.echo.server_address[1])
            (gateway.folder / "routes.yaml").write_text(text)
            wait_for_routes(gateway, count)
            measured = measure(gateway, rounds, pages(count))
    if as_json:
        print(json.dumps(measured))
    else:
        table = Table("page", "median", "95th percentile", "bytes", title=f"{count:,} routes")
        for page, one in measured.items():
            table.add_row(page, f"{one['p50_ms']} ms", f"{one['p95_ms']} ms", f"{one['bytes']:,}")
        console.print(table)
    if any(one["p95_ms"] > PAGE_MAX_S * 1000 for one in measured.values()):
        raise typer.Exit(1)


def wait_for_routes(gateway: Running, count: int) -> None:
    """Until the gateway has read and compiled them."""
    deadline = time.monotonic() + 180
    last = f"r{count - 1:05}"
    token = (gateway.folder / "data" / "admin-token").read_text().strip()
    while time.monotonic() < deadline:
        answer = gateway.admin(f"/admin/reach?q={last}", ("Authorization", f"Bearer {token}"))
        if f'row">{last}<' in answer.text:
            return
        time.sleep(0.5)
    raise SystemExit(f"{count} routes were not read in 180 s: {gateway.log.read_text()[-2000:]}")


if __name__ == "__main__":
    run_bench(main)
