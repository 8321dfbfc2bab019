"""What the tests of a sign-in that several hosts share begin with, and a house that waits for mail."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.stores.redis import RedisStore
from tests.edge.auth_house import House, open_house
from tests.edge.endpoints.sharing_browser import Browser


@pytest.fixture
async def house(tmp_path: Path, redis: RedisStore) -> AsyncIterator[House]:
    """With a Valkey and an account; who needs another house has a fixture of this name."""
    async with open_house(tmp_path, redis=redis) as opened:
        await opened.register()
        yield opened


@pytest.fixture
async def browser(house: House) -> Browser:
    """It is signed in at the public host."""
    signed_in = Browser(house)
    await signed_in.sign_in()
    return signed_in


@pytest.fixture
async def mail(tmp_path: Path) -> AsyncIterator[House]:
    """Whoever registers confirms the address before the first sign-in."""
    async with open_house(tmp_path, verification="required") as opened:
        yield opened
