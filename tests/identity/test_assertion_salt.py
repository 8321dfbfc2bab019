"""Ten nodes that start at once on either SQL store sign assertions with one key."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

from gateway.identity.tokens.upstream_assertions import Assertions
from gateway.stores.open_database import open_database
from gateway.stores.protocols import Database
from tests.identity.keyring import ISSUER, SECRET, HandClock


async def test_nodes_that_start_at_once_agree_on_the_keys(
    database_url: str, database: Database
) -> None:
    del database  # its schema is what is needed
    async with AsyncExitStack() as closing:
        nodes = []
        for _ in range(10):
            own = open_database(database_url, pool_size=2)
            closing.push_async_callback(own.close)
            nodes.append(Assertions(own, SECRET, HandClock(), issuer=ISSUER))
        await asyncio.gather(*(node.open() for node in nodes))
    first = nodes[0].verifying_keys()
    assert len(first) == 3
    assert all(node.verifying_keys() == first for node in nodes)
