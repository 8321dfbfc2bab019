"""`python -m bench.pages`: how soon the first byte of each page comes, and how long the page is.

One worker, embedded stores, one connection that is kept, one page after another in turns; the
account page by somebody who is signed in.  Exits 1 where the 95th percentile of a page is over
20 ms, or a page is over 30,000 bytes.
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
from tests.contract.running import Running, started

console = Console()
PAGES = ("sign-in", "register", "forgot", "account")
FIRST_BYTE_MAX_S = 0.020
BYTES_MAX = 30_000
EMAIL, PASSWORD = "ada@example.com", "correct horse 7 battery"
NAVIGATION = {"Accept": "text/html", "Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate",
              "Sec-Fetch-Dest": "document"}  # fmt: skip


def cookie_of(gateway: Running) -> str:
    """The session cookie of a new account."""
    body = {"email": EMAIL, "password": PASSWORD}
    made = gateway.call("POST", "/auth/register", json_body=body)
    assert made.status == 201, made
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=10)
    text = json.dumps({**body, "transport": "cookie"})
    connection.request("POST", "/auth/login", text, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    cookies = answer.headers.get_all("Set-Cookie") or []
    answer.read()
    connection.close()
    return next(line.partition(";")[0] for line in cookies if line.startswith("__Host-session="))


def measure(gateway: Running, rounds: int) -> dict[str, dict[str, float]]:
    cookie = cookie_of(gateway)
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=10)
    seconds: dict[str, list[float]] = {page: [] for page in PAGES}
    lengths: dict[str, int] = {}
    for number in range(rounds + 5):
        for page in PAGES:
            fields = {**NAVIGATION, **({"Cookie": cookie} if page == "account" else {})}
            began_at = time.perf_counter()
            connection.request("GET", f"/auth/ui/{page}", headers=fields)
            answer = connection.getresponse()
            took_s = time.perf_counter() - began_at
            lengths[page] = len(answer.read())
            assert answer.status == 200, (page, answer.status)
            if number >= 5:
                seconds[page].append(took_s)
    connection.close()
    return {
        page: {
            "p50_ms": round(sorted(took)[len(took) // 2] * 1000, 2),
            "p95_ms": round(sorted(took)[int(len(took) * 0.95)] * 1000, 2),
            "bytes": lengths[page],
        }
        for page, took in seconds.items()
    }


def main(
    rounds: Annotated[int, typer.Option(help="How often each page is asked for.")] = 200,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        settings = {"GATEWAY_EMAIL_VERIFICATION": "off", "GATEWAY_REGISTRATION": "open"}
        with started(Path(folder), **settings) as gateway:
            measured = measure(gateway, rounds)
    if as_json:
        print(json.dumps(measured))
    else:
        table = Table("page", "first byte, median", "95th percentile", "bytes")
        for page, one in measured.items():
            table.add_row(page, f"{one['p50_ms']} ms", f"{one['p95_ms']} ms", f"{one['bytes']:,}")
        console.print(table)
    if any(
        one["p95_ms"] > FIRST_BYTE_MAX_S * 1000 or one["bytes"] > BYTES_MAX
        for one in measured.values()
    ):
        raise typer.Exit(1)


if __name__ == "__main__":
    run_bench(main)
