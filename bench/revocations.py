"""What a million revocations cost a worker: memory, a request, and the catching up.

`python -m bench.revocations [--count 1000000] [--json]`; exit code 1 when it costs 200 MB, or
when a request's question takes a microsecond.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import secrets
import sys
import tempfile
import time
import timeit
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.processes import resident_bytes
from gateway.identity import revocations
from gateway.model import Change, ChangeKind, Principal, Reason, SystemClock
from gateway.revocation.revocation_list import RevocationList
from gateway.stores.migrations import upgrade
from gateway.stores.open_database import open_database

MOST_BYTES = 200_000_000
MOST_ASK_S = 1e-6
KEEP_S = 172_800.0


def in_memory(count: int, kind: ChangeKind) -> dict[str, Any]:
    """As they come in: one by one, each with strings of its own."""
    gc.collect()
    before = resident_bytes(os.getpid())
    revoked = RevocationList()
    began_at = time.perf_counter()
    for number in range(count):
        change = Change(
            secrets.token_urlsafe(12),
            kind,
            secrets.token_urlsafe(16),
            1_800_000_000 + number,
            Reason.TOKEN_REVOKED,
            1_800_000_000 + number,
        )
        revoked.apply(change, KEEP_S + number / 10)
    took_s = time.perf_counter() - began_at
    gc.collect()
    return {
        "kind": kind.value,
        "held": len(revoked),
        "bytes": resident_bytes(os.getpid()) - before,
        "apply_us": took_s / count * 1e6,
        "ask_ns": _ask_s(revoked) * 1e9,
        "ask_empty_ns": _ask_s(RevocationList()) * 1e9,
    }


def _ask_s(revoked: RevocationList) -> float:
    principal = Principal(
        "u1",
        ("user",),
        "s1",
        "t1",
        "c1",
        kid="k1",
        issued_at=1_900_000_000,
        expires_at=1_900_000_900,
    )
    asked: Callable[[], object] = lambda: revoked.refusal(principal)  # noqa: E731
    return min(timeit.repeat(asked, number=100_000, repeat=5)) / 100_000


async def catching_up(count: int, folder: Path) -> dict[str, Any]:
    """What a worker that is replaced reads of SQL before it serves."""
    database = open_database(f"sqlite:///{folder}/gateway.db")
    await upgrade(database)
    now = int(time.time())
    async with database.transaction() as tx:
        for _ in range(0, count, 10_000):
            await tx.many(
                "INSERT INTO changes VALUES"
                " (:id, 'session', :target, :at, 'token_revoked', :at, 1)",
                [
                    {
                        "id": secrets.token_urlsafe(12),
                        "target": secrets.token_urlsafe(16),
                        "at": now,
                    }
                    for _ in range(10_000)
                ],
            )
    revoked, steady = RevocationList(), SystemClock().steady
    longest_s = 0.0
    began_at = turn_at = time.perf_counter()
    async for change, keep_s in revocations.every(database, KEEP_S):
        revoked.apply(change, steady() + keep_s)
        now_at = time.perf_counter()
        longest_s, turn_at = max(longest_s, now_at - turn_at), now_at
    took_s = time.perf_counter() - began_at
    await database.close()
    return {"loaded": len(revoked), "load_s": took_s, "longest_page_s": longest_s}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    results = [in_memory(asked.count, kind) for kind in (ChangeKind.SESSION, ChangeKind.SUBJECT)]
    with tempfile.TemporaryDirectory() as folder:
        loading = asyncio.run(catching_up(min(asked.count, 200_000), Path(folder)))
    if asked.json:
        print(json.dumps({"memory": results, "loading": loading}, indent=2))
    else:
        for result in results:
            print(
                f"{result['held']:,} by {result['kind']}: {result['bytes'] / 1e6:.0f} MB,"
                f" applied in {result['apply_us']:.2f} µs, asked in {result['ask_ns']:.0f} ns"
                f" ({result['ask_empty_ns']:.0f} ns of an empty one)"
            )
        print(
            f"{loading['loaded']:,} loaded from SQLite in {loading['load_s']:.1f} s,"
            f" the loop held for {loading['longest_page_s'] * 1000:.0f} ms at most"
        )
    good = all(r["bytes"] < MOST_BYTES and r["ask_ns"] < MOST_ASK_S * 1e9 for r in results)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
