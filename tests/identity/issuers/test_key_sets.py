"""The keys of an issuer as one worker knows them: fetched, asked for again, and too old."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest

from gateway.identity.issuers import key_sets
from gateway.identity.issuers.key_sets import KeySet, KeySetDependencies
from tests.identity.issuers.provider import (
    DISCOVERY_URL,
    KEYS_URL,
    URL,
    Documents,
    MakeKeySet,
    discovery,
    issuer,
    published,
    signer,
)
from tests.identity.keyring import HandClock

HOUR_S = 3600


async def test_keys_are_found_by_the_discovery_and_then_by_their_kid(made: MakeKeySet) -> None:
    documents = published(signer(kid="a"), signer(kid="b"))
    keys = made(documents)
    assert (keys.is_believed(), keys.age_s, keys.due_at) == (False, math.inf, -math.inf)
    assert (keys.last_error, keys.left_out) == (None, ())
    await keys.refresh()
    assert documents.asked == [DISCOVERY_URL, KEYS_URL]
    assert sorted(keys.keys) == ["a", "b"]
    assert (keys.is_believed(), keys.age_s, keys.last_error) == (True, 0.0, None)


async def test_a_configured_address_needs_no_discovery(made: MakeKeySet) -> None:
    documents = Documents({"https://keys.example.net/": published(signer()).there[KEYS_URL]})
    keys = made(documents, jwks_uri="https://keys.example.net/")
    await keys.refresh()
    assert documents.asked == ["https://keys.example.net/"]
    assert keys.is_believed()


async def test_both_documents_are_vouched_for_by_the_authorities_of_the_issuer(
    made: MakeKeySet,
) -> None:
    documents = published(signer())
    await made(documents, ca="/ca.pem").refresh()
    assert documents.authorities == ["/ca.pem", "/ca.pem"]


@pytest.mark.parametrize(("url", "kib"), [(DISCOVERY_URL, 64), (KEYS_URL, 256)])
async def test_a_document_may_have_so_many_bytes(made: MakeKeySet, url: str, kib: int) -> None:
    documents = published(signer())
    documents.there[url] = documents.there[url].ljust(kib * 1024)
    keys = made(documents)
    await keys.refresh()
    assert keys.is_believed()
    documents.there[url] += b" "
    keys = made(documents)
    await keys.refresh()
    assert keys.last_error == f"{url} answered more than {kib} KiB"


async def test_another_place_of_the_discovery_is_asked_where_the_configuration_names_it(
    made: MakeKeySet,
) -> None:
    documents = published(signer())
    documents.there = {"https://x.example/d": discovery(), KEYS_URL: documents.there[KEYS_URL]}
    keys = made(documents, discovery="https://x.example/d")
    await keys.refresh()
    assert keys.is_believed()


async def test_keys_are_fetched_again_before_their_time_is_over(
    made: MakeKeySet, clock: HandClock
) -> None:
    documents = published(signer())
    keys = made(documents)
    await keys.refresh()
    assert keys.due_at == clock.steady() + 0.8 * HOUR_S


async def test_keys_are_fetched_twice_before_they_are_too_old(
    made: MakeKeySet, clock: HandClock
) -> None:
    keys = made(published(signer()), max_stale_s=600)
    await keys.refresh()
    assert keys.due_at == clock.steady() + 0.8 * 300
    assert keys.adopt(issuer(max_stale_s=400))
    assert keys.due_at == clock.steady() + 200
    assert keys.adopt(issuer(max_stale_s=800))
    assert keys.due_at == clock.steady() + 200
    fetching = keys.refresh()
    assert keys.adopt(issuer(max_stale_s=400))
    assert keys.due_at == math.inf
    await fetching


async def test_the_discovery_is_asked_again_once_its_time_is_over(
    made: MakeKeySet, clock: HandClock
) -> None:
    documents = published(signer())
    keys = made(documents)
    for seconds in (HOUR_S - 1, 1):
        await keys.refresh()
        clock.advance(seconds)
    await keys.refresh()
    assert documents.asked == [DISCOVERY_URL, KEYS_URL, KEYS_URL, DISCOVERY_URL, KEYS_URL]


async def test_the_discovery_is_asked_again_once_the_keys_are_not_where_it_said(
    made: MakeKeySet, clock: HandClock
) -> None:
    documents = published(signer())
    keys = made(documents)
    await keys.refresh()
    moved = documents.there.pop(KEYS_URL)
    await keys.refresh()
    assert keys.last_error is not None
    documents.there |= {DISCOVERY_URL: discovery(jwks_uri=f"{URL}/new"), f"{URL}/new": moved}
    await keys.refresh()
    assert keys.last_error is None


async def test_what_is_due_is_told(clock: HandClock) -> None:
    told: list[float] = []
    keys = KeySet(
        issuer(),
        KeySetDependencies(
            published(signer()), None, clock, due=lambda: told.append(keys.due_at), spread=lambda: 1
        ),
    )
    fetching = keys.refresh()
    assert keys.due_at == math.inf
    await fetching
    assert told == [clock.steady() + 0.95 * HOUR_S]


# While the issuer is away


async def test_the_last_good_set_goes_on_until_it_is_too_old(
    made: MakeKeySet, clock: HandClock
) -> None:
    documents = published(signer())
    keys = made(documents, max_stale_s=HOUR_S)
    await keys.refresh()
    documents.there.clear()
    clock.advance(HOUR_S - 1)
    await keys.refresh()
    assert keys.last_error == f"{KEYS_URL} answered 404"
    assert (keys.is_believed(), list(keys.keys), keys.age_s) == (True, ["k-1"], HOUR_S - 1)
    clock.advance(1)
    assert keys.is_believed() is False


async def test_a_set_that_is_refused_replaces_none(made: MakeKeySet) -> None:
    documents = published(signer())
    keys = made(documents)
    await keys.refresh()
    documents.publish(signer(kid="a"), signer(kid="a"))
    await keys.refresh()
    assert keys.last_error == "the key set names two keys a"
    assert (list(keys.keys), keys.is_believed()) == (["k-1"], True)


async def test_failures_are_tried_again_further_and_further_apart(
    made: MakeKeySet, clock: HandClock
) -> None:
    keys = made(Documents())
    pauses = []
    for _ in range(9):
        await keys.refresh()
        pauses.append(keys.due_at - clock.steady())
    assert pauses == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]


@pytest.mark.parametrize(("spread", "pause_s"), [(0.0, 0.5), (0.5, 0.75), (1.0, 1.0)])
async def test_how_soon_a_failure_is_tried_again_is_spread_over_half_of_the_pause(
    clock: HandClock, spread: float, pause_s: float
) -> None:
    dependencies = KeySetDependencies(Documents(), None, clock, spread=lambda: spread)
    keys = KeySet(issuer(), dependencies)
    await keys.refresh()
    assert keys.due_at - clock.steady() == pause_s


async def test_a_success_forgets_the_failures(made: MakeKeySet, clock: HandClock) -> None:
    documents = Documents()
    keys = made(documents)
    for _ in range(5):
        await keys.refresh()
    documents.there = published(signer()).there
    await keys.refresh()
    documents.there = {}
    await keys.refresh()
    assert keys.due_at - clock.steady() == 0.5


async def test_each_fetch_is_told_with_its_outcome(clock: HandClock) -> None:
    told: list[tuple[str, str]] = []
    documents = published(signer())
    dependencies = KeySetDependencies(
        documents, None, clock, fetched=lambda name, outcome: told.append((name, outcome))
    )
    keys = KeySet(issuer(), dependencies)
    await keys.refresh()
    documents.publish()
    await keys.refresh()
    documents.there.clear()
    await keys.refresh()
    assert told == [("company", "ok"), ("company", "refused"), ("company", "unreachable")]


async def test_keys_that_verify_no_more_are_told(clock: HandClock) -> None:
    removed: list[frozenset[str]] = []
    documents = published(signer(kid="a"), signer(kid="b"))
    keys = KeySet(
        issuer(), KeySetDependencies(documents, None, clock, removed=lambda r: removed.append(r))
    )
    await keys.refresh()
    documents.publish(*(one for one in (signer(kid="b"), signer(kid="c"))))
    await keys.refresh()
    # Another key under the same kid verifies other tokens.
    assert removed == [frozenset(("company:a", "company:b"))]


async def test_an_added_key_removes_none(clock: HandClock) -> None:
    removed: list[frozenset[str]] = []
    one = signer(kid="a")
    documents = published(one)
    keys = KeySet(
        issuer(), KeySetDependencies(documents, None, clock, removed=lambda r: removed.append(r))
    )
    await keys.refresh()
    documents.publish(one, signer(kid="b"))
    await keys.refresh()
    assert removed == []


async def test_a_defect_in_a_fetch_does_not_end_them(made: MakeKeySet, clock: HandClock) -> None:
    class Defective(Documents):
        async def get(self, *args: Any) -> Any:
            raise RuntimeError("a defect")

    keys = made(Defective())
    with pytest.raises(RuntimeError):
        await keys.refresh()
    assert keys.due_at == clock.steady() + key_sets.AGAIN_MOST_S


# Another definition of the same issuer


async def test_another_longest_age_holds_at_once(made: MakeKeySet, clock: HandClock) -> None:
    keys = made(published(signer()))
    await keys.refresh()
    clock.advance(HOUR_S)
    assert keys.adopt(issuer(max_stale_s=HOUR_S))
    assert not keys.is_believed()
    assert keys.adopt(issuer(max_stale_s=HOUR_S + 1))
    assert keys.is_believed()


@pytest.mark.parametrize(
    "changed",
    [
        {"name": "other"},
        {"issuer": "https://x.example"},
        {"ca": "/ca.pem"},
        {"jwks_uri": KEYS_URL},
        {"discovery": KEYS_URL},
    ],
)
async def test_other_keys_are_not_taken_for_these(
    made: MakeKeySet, changed: dict[str, str]
) -> None:
    assert made(published(signer())).adopt(issuer(**changed)) is False


async def test_an_end_ends_a_fetch(made: MakeKeySet) -> None:
    documents = published(signer())
    documents.gate = asyncio.Event()
    keys = made(documents)
    fetching = keys.refresh()
    while not documents.asked:
        await asyncio.sleep(0)
    await keys.close()
    assert fetching.cancelled()
    assert keys.due_at == math.inf
    await keys.close()
