"""A console with the pages of `bulbs`; who needs others has fixtures of these names."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.edge.console.bulbs import Bulbs
from tests.edge.console.house import ConsoleHouse, console_house


@pytest.fixture
def bulbs() -> Bulbs:
    return Bulbs()


@pytest.fixture
async def house(bulbs: Bulbs) -> AsyncIterator[ConsoleHouse]:
    async with console_house(*bulbs.pages()) as opened:
        yield opened
