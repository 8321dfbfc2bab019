"""The stream of changes and its leases, on a real server."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gateway.model import Change, ChangeKind, Reason
from gateway.stores.protocols import LeaseState, StoreUnavailable
from gateway.stores.redis import RedisStore, open_redis
from gateway.stores.stream import RedisChangeStream, decode, encode
from tests.servers import ValkeyServer


def change(target: str) -> Change:
    return Change(f"id-{target}", ChangeKind.SESSION, target, 5, Reason.TOKEN_REVOKED, 7)


@pytest.fixture
def stream(redis: RedisStore) -> RedisChangeStream:
    return RedisChangeStream(redis)


async def test_entries_are_numbered_without_gaps_from_one(stream: RedisChangeStream) -> None:
    assert (await stream.append([change("a"), change("b")])).end == 2
    assert (await stream.append([change("c")])).end == 3


async def test_a_renewal_sees_the_end_and_what_came_after_its_position(
    stream: RedisChangeStream,
) -> None:
    registered = await stream.register("w")
    await stream.append([change("a"), change("b")])
    view = await stream.renew("w", 1, registered.end, registered.end)
    assert view is not None
    assert view.end == 2
    assert view.entries == [(1, change("a")), (2, change("b"))]
    assert view.incarnation == registered.incarnation


async def test_a_renewal_of_a_lease_that_is_gone_does_not_bring_it_back(
    stream: RedisChangeStream,
) -> None:
    await stream.register("w")
    await stream.withdraw("w")
    assert await stream.renew("w", 1, 0, 0) is None
    assert (await stream.view()).leases == {}


async def test_a_renewal_that_is_behind_is_no_sign_of_life(stream: RedisChangeStream) -> None:
    await stream.register("w")
    await stream.append([change("a")])
    view = await stream.renew("w", 1, 0, 0)
    assert view is not None
    assert view.leases == {"w": LeaseState(0, 0, 0)}
    view = await stream.renew("w", 2, 1, 1)
    assert view is not None
    assert view.leases == {"w": LeaseState(2, 1, 1)}


async def test_a_lease_that_was_renewed_since_is_not_taken_away(
    stream: RedisChangeStream,
) -> None:
    await stream.register("w")
    await stream.renew("w", 1, 0, 0)
    await stream.forget("w", 0)
    assert "w" in (await stream.view()).leases
    await stream.forget("w", 1)
    assert (await stream.view()).leases == {}


async def test_an_emptied_server_begins_a_new_incarnation_without_leases(
    stream: RedisChangeStream, redis: RedisStore
) -> None:
    before = await stream.register("w")
    await stream.append([change("a")])
    for key in await redis.call("KEYS", f"{redis.prefix}*"):
        await redis.call("DEL", key)
    after = await stream.view()
    assert after.incarnation != before.incarnation
    assert (after.end, after.leases) == (0, {})


async def test_a_stream_that_is_ahead_of_its_count_is_not_believed(
    stream: RedisChangeStream, redis: RedisStore
) -> None:
    before = await stream.append([change("a")])
    await redis.call("HSET", f"{redis.prefix}state", "seq", 0)
    after = await stream.append([change("b")])
    assert after.incarnation != before.incarnation
    assert after.end == 1


async def test_a_restarted_server_is_another_incarnation(
    own_valkey: Callable[..., ValkeyServer],
) -> None:
    server = own_valkey()
    redis = open_redis(server.url)
    stream = RedisChangeStream(redis)
    before = await stream.append([change("a")])
    server.kill()
    server.start()
    after = await stream.view()
    assert after.end == before.end
    assert after.incarnation != before.incarnation
    await redis.close()


async def test_a_restarted_embedded_server_is_the_same_incarnation(
    own_valkey: Callable[..., ValkeyServer],
) -> None:
    server = own_valkey()
    redis = open_redis(server.url, durable=True)
    stream = RedisChangeStream(redis)
    before = await stream.register("w")
    server.kill()
    server.start()
    after = await stream.view()
    assert (after.incarnation, after.leases) == (before.incarnation, before.leases)
    await redis.close()


async def test_news_come_as_soon_as_there_is_an_entry(stream: RedisChangeStream) -> None:
    assert await stream.read_new(0, 0.01) == []
    await stream.append([change("a"), change("b")])
    assert await stream.read_new(1, 5) == [(2, change("b"))]
    assert await stream.read_new(2, 0.01) == []


async def test_old_entries_are_trimmed_and_young_ones_kept(stream: RedisChangeStream) -> None:
    await stream.register("w")
    await stream.append([change("a"), change("b")])
    await stream.trim(60)
    view = await stream.renew("w", 1, 0, 0)
    assert view is not None
    assert len(view.entries) == 2
    await stream.trim(-10)
    view = await stream.renew("w", 2, 0, 0)
    assert view is not None
    assert (view.end, view.entries) == (2, [])


def test_an_entry_that_was_changed_on_its_way_is_not_believed() -> None:
    entry = encode(change("session"))
    assert decode(entry) == change("session")
    assert decode(entry.replace("session", "sessiom", 1)) is None
    assert decode("") is None


async def test_a_request_that_was_changed_on_its_way_is_refused(
    redis: RedisStore, stream: RedisChangeStream
) -> None:
    await stream.register("w")
    words = ["0011", "w", "1", "7", "7", "10"]
    with pytest.raises(StoreUnavailable, match="garbled"):
        await redis.script(stream._renew, ("state", "changes", "leases"), [*words, "0" * 40])
    assert (await stream.view()).leases == {"w": LeaseState(0, -1, -1)}
