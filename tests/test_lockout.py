"""The simulation that docs/security/lockout.md shows, run as it stands."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from bench.lockout import MANY_STOLEN, NETWORKS, STOLEN, Day, day, simulate, table

pytestmark = pytest.mark.slow

PAGE = Path(__file__).parents[1] / "docs/security/lockout.md"
A_DAY = 480


@pytest.fixture(scope="module")
def days() -> dict[str, Day]:
    return {found.scenario: found for found in asyncio.run(simulate())}


def test_the_page_shows_what_the_simulation_says(days: dict[str, Day]) -> None:
    assert table(list(days.values())) in PAGE.read_text("utf-8")


def test_no_mix_of_attackers_gets_480_guesses_a_day_at_one_account(days: dict[str, Day]) -> None:
    assert max(found.most_on_one_account for found in days.values()) <= A_DAY


def test_no_stranger_gets_a_sixth_guess_in_any_15_minutes(days: dict[str, Day]) -> None:
    """Who holds a device cookie is none to the account that it is of: stolen, or one's own."""
    known = ("stolen", "devices of each")
    strangers = [found for name, found in days.items() if not any(word in name for word in known)]
    assert max(found.most_in_a_window for found in strangers) == 5


def test_a_botnet_gets_no_further_on_one_account_than_one_attacker(days: dict[str, Day]) -> None:
    alone = days["one attacker, one account"]
    assert days[f"{NETWORKS:,} networks, one account"].evaluated == alone.evaluated


def test_cookies_of_the_password_before_give_nothing(days: dict[str, Day]) -> None:
    (stocked,) = [found for name, found in days.items() if "the password before" in name]
    assert stocked.evaluated == days["one attacker, one account"].evaluated


def test_nobody_shuts_the_owners_browser_out(days: dict[str, Day]) -> None:
    """But who stole the cookies of nine of the owner's own browsers."""
    many = f"{NETWORKS:,} networks with {MANY_STOLEN} stolen cookies"
    assert days[f"{NETWORKS:,} networks with {STOLEN} stolen cookies"].evaluated > 400
    assert {d.owner_on_known_device for name, d in days.items() if name != many} == {1.0}


def test_a_mailed_link_always_lets_the_owner_in(days: dict[str, Day]) -> None:
    assert {found.owner_after_a_link for found in days.values()} == {1.0}


async def test_without_an_attack_everybody_gets_in() -> None:
    quiet = await day("a quiet day", lambda step, stock: [])
    assert (quiet.owner_on_known_device, quiet.owner_on_new_device) == (1.0, 1.0)
