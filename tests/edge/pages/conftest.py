"""What most pages are looked at with: a house in which somebody has an account, and a visitor."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.edge.auth_house import House, open_house
from tests.edge.pages.visitor import Visitor


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with open_house(tmp_path) as opened:
        await opened.register()
        yield opened


@pytest.fixture
def visitor(house: House) -> Visitor:
    return Visitor(house)
