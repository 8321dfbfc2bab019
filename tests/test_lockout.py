"""The simulation that docs/security/lockout.md shows, run as it stands."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from bench.lockout import SCENARIOS, Day, day, simulate, table

PAGE = Path(__file__).parents[1] / "docs/security/lockout.md"


@pytest.fixture(scope="module")
def days() -> list[Day]:
    return asyncio.run(simulate())


def test_the_page_shows_what_the_simulation_says(days: list[Day]) -> None:
    assert table(days) in PAGE.read_text("utf-8")


def test_nobody_shuts_the_owners_browser_out(days: list[Day]) -> None:
    assert [found.owner_on_known_device for found in days] == [1.0] * len(SCENARIOS)


def test_a_botnet_gets_no_further_on_one_account_than_one_attacker(days: list[Day]) -> None:
    # Five in each quarter of an hour, and one after each of the ten waits shorter than that.
    assert max(found.most_on_one_account for found in days) <= 5 * 24 * 4 + 10


async def test_without_an_attack_everybody_gets_in() -> None:
    quiet = await day("a quiet day", lambda step: [])
    assert (quiet.owner_on_known_device, quiet.owner_on_new_device) == (1.0, 1.0)
