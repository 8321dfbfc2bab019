"""A clock that a test turns for a server that it starts, while that runs."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.stores.embedded import server_binary
from gateway.stores.redis import RedisStore
from tests import servers
from tests.servers import ValkeyServer


class TurnedClock:
    """Of whatever is started with `environment`; the clocks that never jump are the machine's."""

    def __init__(self, folder: Path) -> None:
        # `faketime` itself fails where two of it begin at once.
        library = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)
        if library is None:
            pytest.skip("needs libfaketime: apt-get install faketime")
        self._note = folder / "offset"
        self.turn(0)
        self.environment = {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(self._note),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

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

    def turn(self, seconds: int) -> None:
        """To the machine's time and so many seconds, in one write."""
        fresh = self._note.with_suffix(".new")
        fresh.write_text(f"{seconds:+d}")
        os.replace(fresh, self._note)

    async def turn_of(self, redis: RedisStore, seconds: int) -> None:
        """The same, and waits until the server goes by it."""
        self.turn(seconds)
        async with asyncio.timeout(20):
            while abs(await redis.time() - time.time() - seconds) > 1:
                await asyncio.sleep(0.01)
