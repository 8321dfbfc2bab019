"""A clock that a test turns for a server that it starts, while that runs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bench import turned_clock
from gateway.stores.embedded import server_binary
from gateway.stores.redis import RedisStore
from tests import servers
from tests.servers import ValkeyServer


class TurnedClock(turned_clock.TurnedClock):
    """Skips a test where nothing turns clocks."""

    def __init__(self, folder: Path) -> None:
        if turned_clock.LIBRARY is None:
            pytest.skip("needs libfaketime: apt-get install faketime")
        super().__init__(folder)

    def valkey(
        self, own_valkey: Callable[..., ValkeyServer], monkeypatch: pytest.MonkeyPatch
    ) -> ValkeyServer:
        """One that `own_valkey` starts, and that goes by this clock."""
        with monkeypatch.context() as started:
            for name, value in self.environment.items():
                started.setenv(name, value)
            # A distribution's waits for ever for its allocator, which asks what time it is.
            started.setattr(servers, "valkey_binary", server_binary)
            return own_valkey()

    async def turn_of(self, redis: RedisStore, seconds: int) -> None:
        """The same, and waits until the server goes by it."""
        self.turn(seconds)
        async with asyncio.timeout(20):
            while abs(await redis.time() - time.time() - seconds) > 1:
                await asyncio.sleep(0.01)
