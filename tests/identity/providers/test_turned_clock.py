"""What a provider has ended, where the clock of Redis steps, and where Redis is not what it was."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.identity.providers.ended_sessions import EndedSessions
from gateway.identity.sessions.session_origins import SessionOrigin
from gateway.stores.moments import RedisMoments
from gateway.stores.nonces import RedisNonceStore
from gateway.stores.redis import RedisStore, open_redis
from tests.identity.providers.parts import ISSUER
from tests.servers import ValkeyServer, wait_until
from tests.turned_clock import TurnedClock

HOUR_S = 3600
STEPS = [-HOUR_S, -2, 0, 2, HOUR_S]

OwnValkey = Callable[..., ValkeyServer]


@asynccontextmanager
async def ends_in(valkey: ValkeyServer) -> AsyncIterator[tuple[EndedSessions, RedisStore]]:
    redis = open_redis(valkey.url)
    try:
        yield EndedSessions(RedisNonceStore(redis), RedisMoments(redis)), redis
    finally:
        await redis.close()


async def begun(ended: EndedSessions, there: str | None) -> SessionOrigin:
    """Their browser is sent to the provider now."""
    at = await ended.now(ISSUER)
    return SessionOrigin("id-1", ISSUER, "alice", "idp", there, None, begun_at=at)


async def end(ended: EndedSessions, named: str) -> None:
    if named == "person":
        await ended.note_person(ISSUER, "alice")
    elif named == "session":
        await ended.note(ISSUER, "there")
    else:
        await ended.note(ISSUER, "another", "alice")


def there_of(named: str) -> str | None:
    """The session there that the sign-in names, where it names any."""
    return "there" if named == "session" else None


NAMED = ["person", "session", "person beside a session"]


@pytest.mark.parametrize("named", NAMED)
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("is_before", [True, False], ids=["before the end", "after the end"])
async def test_no_step_of_the_clock_forgets_what_ended(
    own_valkey: OwnValkey,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    named: str,
    step: int,
    is_before: bool,
) -> None:
    """Who holds a code from before the end has waited for the step."""
    clock = TurnedClock(tmp_path)
    valkey = clock.valkey(own_valkey, monkeypatch)
    async with ends_in(valkey) as (ended, redis):
        before = await begun(ended, there_of(named))
        assert not await ended.has_ended(before)
        if is_before:
            await clock.turn_of(redis, step)
        await end(ended, named)
        await clock.turn_of(redis, step)
        assert await ended.has_ended(before)
        await clock.turn_of(redis, 0)
        assert await ended.has_ended(before)
        # Who is sent there after it counts at once, whatever the clock was.
        assert not await ended.has_ended(await begun(ended, "a later one"))


@pytest.mark.parametrize("named", NAMED)
async def test_a_redis_that_came_back_with_older_files_says_of_nobody_that_they_may_go_on(
    own_valkey: OwnValkey, tmp_path: Path, named: str
) -> None:
    valkey = own_valkey()
    async with ends_in(valkey) as (ended, _):
        before = await begun(ended, there_of(named))
        assert not await ended.has_ended(before)
    older = tmp_path / "older"
    valkey.kill()
    shutil.copytree(valkey.folder / "appendonlydir", older)
    valkey.start()
    async with ends_in(valkey) as (ended, _):
        between = await begun(ended, there_of(named))
        await end(ended, named)
        assert await ended.has_ended(between)
    valkey.kill()
    shutil.rmtree(valkey.folder / "appendonlydir")
    shutil.copytree(older, valkey.folder / "appendonlydir")
    valkey.start()
    async with ends_in(valkey) as (ended, _):
        assert await ended.has_ended(before)
        assert await ended.has_ended(between)
        assert not await ended.has_ended(await begun(ended, there_of(named)))


@pytest.mark.parametrize("named", NAMED)
async def test_a_replica_that_takes_over_without_the_end_lets_nobody_go_on(
    own_valkey: OwnValkey, named: str
) -> None:
    first, second = own_valkey(), own_valkey()
    second.ask(b"REPLICAOF 127.0.0.1 %d" % first.port)
    async with ends_in(first) as (ended, _):
        before = await begun(ended, there_of(named))

        def has_followed() -> bool:
            return second.ask(b"DBSIZE") == b":1"

        wait_until(has_followed, 20, "the replica")
        second.ask(b"REPLICAOF NO ONE")  # it hears no more, as one that is behind
        await end(ended, named)
        assert await ended.has_ended(before)
    async with ends_in(second) as (ended, _):
        assert await ended.has_ended(before)
        assert not await ended.has_ended(await begun(ended, there_of(named)))


@pytest.mark.parametrize("named", NAMED)
async def test_an_emptied_redis_lets_nobody_go_on(own_valkey: OwnValkey, named: str) -> None:
    async with ends_in(own_valkey()) as (ended, redis):
        before = await begun(ended, there_of(named))
        await end(ended, named)
        await redis.call("FLUSHALL")
        assert await ended.has_ended(before)
        later = await begun(ended, there_of(named))
        assert await ended.has_ended(before)
        assert not await ended.has_ended(later)
