"""What most of these tests begin with: a clock that is set, a key ring, and a replica."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.identity.keyring import Gate, HandClock, opened
from tests.identity.presented import Replica


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
async def gate(tmp_path: Path, clock: HandClock) -> AsyncIterator[Gate]:
    async with opened(tmp_path, clock) as database:
        yield await Gate(database, clock).start()


@pytest.fixture
def replica() -> Replica:
    return Replica()
