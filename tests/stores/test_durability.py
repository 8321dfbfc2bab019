"""What was acknowledged is there after kill -9, on either SQL store.

`python -m bench.kills` does the same to a whole gateway.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

from gateway.stores.open_database import open_database
from gateway.stores.protocols import Database

pytestmark = pytest.mark.slow

WRITER = """
import asyncio, sys
from gateway.stores.open_database import open_database

async def write(url, start):
    database = open_database(url)
    number = int(start)
    while True:
        async with database.transaction() as tx:
            await tx.run("INSERT INTO installation VALUES (:n, :n)", n=f"{number}")
            await tx.run("UPDATE installation SET value = 'whole' WHERE name = :n", n=f"{number}")
        print(number, flush=True)
        number += 1

asyncio.run(write(*sys.argv[1:]))
"""


def killed_after(url: str, start: int, acknowledged: int) -> int:
    """Lets a process write, kills it with -9 in the middle; the last number that it told."""
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, url, str(start)], stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout
        last = start - 1
        for _ in range(acknowledged):
            last = int(writer.stdout.readline())
        writer.kill()
        rest = writer.stdout.read().split("\n")
        told = [int(line) for line in rest[:-1] if line]
    return max([last, *told])


async def test_no_acknowledged_write_is_lost_and_none_is_half_there(
    database: Database, database_url: str
) -> None:
    acknowledged: set[str] = set()
    start = 0
    for _ in range(5):
        last = killed_after(database_url, start, 10)
        acknowledged |= {str(number) for number in range(start, last + 1)}
        start = last + 1000
    again = open_database(database_url)
    async with again.read_transaction() as tx:
        rows = await tx.all("SELECT name, value FROM installation")
    await again.close()
    assert acknowledged <= {row["name"] for row in rows}
    assert {row["value"] for row in rows} == {"whole"}
