"""Who asks an issuer for a key that it does not know: how often, for how long, and what they are told."""

from __future__ import annotations

import asyncio

import pytest

from gateway.identity.issuers import key_sets
from gateway.model import Reason
from tests.identity.issuers.provider import DISCOVERY_URL, KEYS_URL, MakeKeySet, published, signer
from tests.identity.keyring import HandClock


async def test_an_unknown_kid_asks_again_and_waits_for_the_answer(
    made: MakeKeySet, clock: HandClock
) -> None:
    documents = published(signer(kid="a"))
    keys = made(documents)
    await keys.refresh()
    documents.publish(signer(kid="a"), signer(kid="b"))
    clock.advance(10)
    assert await keys.ask() is Reason.KEY_UNKNOWN
    assert "b" in keys.keys


async def test_a_key_that_is_new_since_a_fetch_that_was_due_is_asked_for_at_once(
    made: MakeKeySet,
) -> None:
    documents = published(signer(kid="a"))
    keys = made(documents)
    await keys.refresh()
    documents.publish(signer(kid="b"))
    assert not isinstance(await keys.find("b"), Reason)


async def test_an_issuer_is_asked_once_in_ten_seconds(made: MakeKeySet, clock: HandClock) -> None:
    documents = published(signer())
    keys = made(documents)
    for _ in range(121):  # the last one at 60 s
        assert await keys.ask() is Reason.KEY_UNKNOWN
        clock.advance(0.5)
    assert documents.asked_for_keys() == 7


async def test_a_thousand_calls_at_once_cost_one_fetch(made: MakeKeySet) -> None:
    documents = published(signer())
    keys = made(documents)
    documents.gate = asyncio.Event()
    asking = [asyncio.create_task(keys.ask()) for _ in range(key_sets.MOST_WAITING)]
    await asyncio.sleep(0)
    assert await keys.ask() is Reason.ISSUER_UNAVAILABLE  # one too many
    documents.gate.set()
    assert set(await asyncio.gather(*asking)) == {Reason.KEY_UNKNOWN}
    assert documents.asked == [DISCOVERY_URL, KEYS_URL]


async def test_who_waits_no_more_makes_room_for_one_other(
    made: MakeKeySet, clock: HandClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_sets, "MOST_WAITING", 1)
    documents = published(signer())
    keys = made(documents)
    for _ in range(2):
        assert await keys.ask() is Reason.KEY_UNKNOWN
        clock.advance(10)
    documents.gate = asyncio.Event()
    waits = asyncio.create_task(keys.ask())
    await asyncio.sleep(0)
    assert await asyncio.wait_for(keys.ask(), 60) is Reason.ISSUER_UNAVAILABLE
    documents.gate.set()
    assert await waits is Reason.KEY_UNKNOWN


async def test_who_asks_during_a_fetch_waits_for_that_one(made: MakeKeySet) -> None:
    documents = published(signer())
    documents.gate = asyncio.Event()
    keys = made(documents)
    keys.refresh()
    asking = asyncio.create_task(keys.ask())
    await asyncio.sleep(0)
    documents.gate.set()
    assert await asking is Reason.KEY_UNKNOWN
    assert documents.asked_for_keys() == 1


async def test_who_gives_up_takes_the_answer_from_nobody(made: MakeKeySet) -> None:
    documents = published(signer())
    documents.gate = asyncio.Event()
    keys = made(documents)
    gone, stays = (asyncio.create_task(keys.ask()) for _ in range(2))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.wait({gone})
    documents.gate.set()
    assert await stays is Reason.KEY_UNKNOWN


async def test_nobody_waits_longer_than_the_promise(
    made: MakeKeySet, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert key_sets.ASK_WAIT_S == 2.0
    monkeypatch.setattr(key_sets, "ASK_WAIT_S", 0.05)
    documents = published(signer())
    documents.gate = asyncio.Event()
    keys = made(documents)
    assert await keys.ask() is Reason.ISSUER_UNAVAILABLE
    assert documents.asked == [DISCOVERY_URL]  # and it goes on for the others
    documents.gate.set()
    await keys.refresh()
    assert keys.is_believed()


async def test_nobody_who_could_not_look_calls_a_token_bad(
    made: MakeKeySet, clock: HandClock
) -> None:
    documents = published(signer())
    keys = made(documents)
    await keys.refresh()
    documents.there.clear()
    clock.advance(10)
    assert await keys.ask() is Reason.ISSUER_UNAVAILABLE
    assert await keys.ask() is Reason.ISSUER_UNAVAILABLE  # nor who came after the failure
    assert len(documents.asked) == 3


async def test_keys_that_are_too_old_call_no_token_bad(made: MakeKeySet, clock: HandClock) -> None:
    keys = made(published(signer()), max_stale_s=5)
    assert await keys.ask() is Reason.KEY_UNKNOWN
    clock.advance(5)
    assert await keys.ask() is Reason.ISSUER_UNAVAILABLE
