"""What the nodes of one installation must have in common."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.app.settings import Settings, load
from gateway.app.shared_settings import (
    SettingsDiffer,
    agree,
    differences,
    longest_staleness_s,
    shared,
)
from gateway.stores.protocols import Database
from gateway.stores.redis import RedisStore, open_redis
from gateway.stores.stream import RedisChangeStream

SECRET = b"s" * 32
SOON_S = 1.0


def settings(**changed: str) -> Settings:
    return load({f"GATEWAY_{name}": value for name, value in changed.items()}, env_file=None)


OURS = shared(settings(), SECRET)


@pytest.fixture
async def stream(redis: RedisStore) -> RedisChangeStream:
    return RedisChangeStream(redis)


async def beating(stream: RedisChangeStream) -> None:
    """Another node's worker, as long as it lives."""
    view = await stream.register("theirs")
    for heartbeat in range(1, 1000):
        await stream.renew("theirs", heartbeat, view.end, view.end)
        await asyncio.sleep(0.1)


async def test_the_first_node_writes_down_what_the_others_must_have(
    sqlite_database: Database, stream: RedisChangeStream
) -> None:
    await agree(sqlite_database, OURS, stream, SOON_S)
    assert await differences(sqlite_database, OURS) == []


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"PUBLIC_URL": "http://localhost:8080"},
         "GATEWAY_PUBLIC_URL is http://localhost:8080 here and http://127.0.0.1:8080 there"),
        ({"ISSUER": "https://id.example.com"}, "GATEWAY_ISSUER is https://id.example.com here"),
        ({"AUDIENCE": "shop"}, "GATEWAY_AUDIENCE is shop here"),
        ({"SIGNING_ALG": "ES256"}, "GATEWAY_SIGNING_ALG is ES256 here and RS256 there"),
        ({"MAX_TOKEN_LIFE_S": "7200"}, "GATEWAY_MAX_TOKEN_LIFE_S is 7200 here"),
        ({"MAX_STALENESS_S": "30"}, "GATEWAY_MAX_STALENESS_S is 30 here and 5 there"),
        ({"PASSWORD_PEPPER": "0123456789abcdef0123456789abcdef"},
         "GATEWAY_PASSWORD_PEPPER differs"),
    ],
)  # fmt: skip
async def test_who_starts_beside_a_node_with_other_settings_is_refused_and_told_which(
    sqlite_database: Database, stream: RedisChangeStream, changed: dict[str, str], told: str
) -> None:
    await agree(sqlite_database, OURS, stream, SOON_S)
    other = asyncio.create_task(beating(stream))
    try:
        while not (await stream.view()).leases:
            await asyncio.sleep(0)
        theirs = shared(settings(**changed), SECRET)
        with pytest.raises(SettingsDiffer, match="another node") as refused:
            await agree(sqlite_database, theirs, stream, SOON_S)
        assert told in str(refused.value)
        assert "0123456789abcdef" not in str(refused.value)
        assert await differences(sqlite_database, OURS) == []
    finally:
        other.cancel()


async def test_the_lease_of_a_node_that_died_keeps_nobody_from_starting(
    sqlite_database: Database, stream: RedisChangeStream
) -> None:
    await agree(sqlite_database, OURS, stream, SOON_S)
    await stream.register("dead")
    changed = shared(settings(AUDIENCE="shop"), SECRET)
    await agree(sqlite_database, changed, stream, SOON_S)
    assert await differences(sqlite_database, changed) == []


async def test_where_redis_is_away_nothing_is_changed_and_the_start_goes_on(
    sqlite_database: Database, stream: RedisChangeStream
) -> None:
    await agree(sqlite_database, OURS, stream, SOON_S)
    away = open_redis("redis://127.0.0.1:1/0")
    changed = shared(settings(AUDIENCE="shop"), SECRET)
    await agree(sqlite_database, changed, RedisChangeStream(away), SOON_S)
    await away.close()
    assert await differences(sqlite_database, OURS) == []


def test_no_secret_is_written_down() -> None:
    written: dict[str, Any] = shared(settings(PASSWORD_PEPPER="p" * 40), SECRET)
    assert "pppp" not in str(written)
    assert written["GATEWAY_PASSWORD_PEPPER"] != OURS["GATEWAY_PASSWORD_PEPPER"]


async def test_a_command_waits_as_long_as_the_nodes_do_whatever_its_own_settings_say(
    sqlite_database: Database,
) -> None:
    assert await longest_staleness_s(sqlite_database, 5) == 5
    await agree(sqlite_database, shared(settings(MAX_STALENESS_S="30"), SECRET), None, SOON_S)
    assert await longest_staleness_s(sqlite_database, 5) == 30
    assert await longest_staleness_s(sqlite_database, 60) == 60
