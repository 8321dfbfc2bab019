"""Nodes that run with different settings confirm nothing and forget nothing, and say which differ."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gateway.app.settings import load
from gateway.app.settings_watch import PREFIX, SettingsWatch
from gateway.app.shared_settings import shared
from gateway.revocation.stream_identity import EXPIRES_AFTER_MS, FORGOTTEN_MS, HEARTBEAT_S
from gateway.stores.protocols import Database
from tests.databases import Hands, fresh_database


@pytest.fixture
def clock() -> Hands:
    return Hands()


@pytest.fixture
async def database(tmp_path: Path, clock: Hands) -> AsyncIterator[Database]:
    async with fresh_database(tmp_path, clock) as opened:
        yield opened


def node(database: Database, **changed: str) -> SettingsWatch:
    settings = load({f"GATEWAY_{name}": value for name, value in changed.items()}, env_file=None)
    return SettingsWatch(database, shared(settings, b"s" * 32))


async def heartbeats(clock: Hands, *nodes: SettingsWatch, times: int = 4) -> None:
    for _ in range(times):
        for one in nodes:
            await one.heartbeat()
        clock.move(HEARTBEAT_S)


async def rows(database: Database) -> int:
    async with database.read_transaction() as tx:
        found = await tx.all(
            "SELECT name FROM installation WHERE name LIKE :names", names=f"{PREFIX}%"
        )
    return len(found)


async def test_workers_and_nodes_with_the_same_settings_agree(
    database: Database, clock: Hands
) -> None:
    nodes = [node(database), node(database), node(database)]
    with capture_logs() as logs:
        await heartbeats(clock, *nodes)
    assert not any(one.differs for one in nodes)
    assert logs == []
    assert await rows(database) == 1


async def test_nodes_that_differ_both_see_it_and_say_which_setting_it_is_once(
    database: Database, clock: Hands
) -> None:
    one, two = node(database), node(database, MAX_TOKEN_LIFE_S="3600")
    with capture_logs() as logs:
        await heartbeats(clock, one, two, times=6)
    assert one.differs
    assert two.differs
    assert [entry["event"] for entry in logs] == ["settings-differ"] * 2
    assert sorted(text for entry in logs for text in entry["differences"]) == [
        "GATEWAY_MAX_TOKEN_LIFE_S is 3600 here and 86400 there",
        "GATEWAY_MAX_TOKEN_LIFE_S is 86400 here and 3600 there",
    ]


async def test_no_secret_is_said(database: Database, clock: Hands) -> None:
    one, two = node(database), node(database, PASSWORD_PEPPER="p" * 40)
    with capture_logs() as logs:
        await heartbeats(clock, one, two)
    assert logs[0]["differences"] == ["GATEWAY_PASSWORD_PEPPER differs"]
    async with database.read_transaction() as tx:
        said = await tx.all("SELECT value FROM installation")
    assert "pppp" not in str(said)


async def test_how_long_a_worker_waits_is_compared_elsewhere(
    database: Database, clock: Hands
) -> None:
    one, two = node(database), node(database, MAX_STALENESS_S="30")
    await heartbeats(clock, one, two)
    assert not one.differs


async def test_whoever_starts_behind_nodes_that_were_stopped_differs_from_nobody(
    database: Database, clock: Hands
) -> None:
    await heartbeats(clock, node(database), times=1)
    changed = node(database, AUDIENCE="shop")
    await heartbeats(clock, changed, times=8)
    assert not changed.differs


async def test_once_the_other_is_silent_all_agree_again_and_its_row_goes(
    database: Database, clock: Hands
) -> None:
    one, two = node(database), node(database, AUDIENCE="shop")
    await heartbeats(clock, one, two)
    seen = [one.differs]
    clock.move(EXPIRES_AFTER_MS / 1000)
    with capture_logs() as logs:
        await heartbeats(clock, one, times=2)
    assert [*seen, one.differs] == [True, False]
    assert [entry["event"] for entry in logs] == ["settings-agree"]
    clock.move(FORGOTTEN_MS / 1000)
    await one.heartbeat()
    assert await rows(database) == 1


async def test_a_setting_that_only_one_version_compares_is_no_difference(
    database: Database, clock: Hands
) -> None:
    own = shared(load({}, env_file=None), b"s" * 32)
    newer = SettingsWatch(database, {**own, "GATEWAY_NEWER": "1"})
    older = SettingsWatch(database, own)
    await heartbeats(clock, newer, older)
    assert not newer.differs
    assert not older.differs
