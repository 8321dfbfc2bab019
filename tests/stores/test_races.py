"""Refreshes that race on two nodes of one store.  `python -m bench.races` runs a thousand."""

from __future__ import annotations

from bench import races


async def test_twenty_refreshes_of_one_token_at_once_have_one_successor(database_url: str) -> None:
    async with races.opened(database_url) as nodes:
        figures = await races.run(nodes, 10, 20)
    assert (figures["with_two_successors"], figures["refused"]) == (0, 0)
