"""The keys of an issuer as one worker knows them: fetched, kept, asked for again, and too old."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.identity.issuers import key_sets
from gateway.identity.issuers.kept_keys import KeptKeys, KeptSet
from gateway.identity.issuers.key_sets import KeySet, KeySetDependencies
from gateway.model import Reason
from tests.identity.issuers.provider import (
    DISCOVERY_URL,
    KEYS_URL,
    URL,
    Documents,
    discovery,
    document,
    issuer,
    issuer_tokens,
    published,
    signer,
)
from tests.identity.keyring import START, HandClock

HOUR_S = 3600


@pytest.fixture
def kept(tmp_path: Path) -> KeptKeys:
    return KeptKeys(tmp_path / "issuers")


Make = Callable[..., KeySet]


@pytest.fixture
def made(clock: HandClock) -> Make:
    def make(documents: Documents, kept: KeptKeys | None = None, **changed: Any) -> KeySet:
        dependencies = KeySetDependencies(documents, kept, clock, spread=lambda: 0.0)
        return KeySet(issuer(**changed), dependencies)

    return make


async def test_keys_are_found_by_the_discovery_and_then_by_their_kid(made: Make) -> None:
    documents = published(signer(kid="a"), signer(kid="b"))
    keys = made(documents)
    assert (keys.is_believed(), keys.age_s, keys.due_at) == (False, math.inf, -math.inf)
    await keys.refresh()
    assert documents.asked == [DISCOVERY_URL, KEYS_URL]
    assert sorted(keys.keys) == ["a", "b"]
    assert (keys.is_believed(), keys.age_s, keys.last_error) == (True, 0.0, None)


async def test_a_configured_address_needs_no_discovery(made: Make) -> None:
    documents = Documents({"https://keys.example.net/": published(signer()).there[KEYS_URL]})
    keys = made(documents, jwks_uri="https://keys.example.net/")
    await keys.refresh()
    assert documents.asked == ["https://keys.example.net/"]
    assert keys.is_believed()


async def test_another_place_of_the_discovery_is_asked_where_the_configuration_names_it(
    made: Make,
) -> None:
    documents = published(signer())
    documents.there = {"https://x.example/d": discovery(), KEYS_URL: documents.there[KEYS_URL]}
    keys = made(documents, discovery="https://x.example/d")
    await keys.refresh()
    assert keys.is_believed()


async def test_keys_are_fetched_again_before_their_time_is_over(
    made: Make, clock: HandClock
) -> None:
    documents = published(signer())
    keys = made(documents)
    await keys.refresh()
    assert keys.due_at == clock.steady() + 0.8 * HOUR_S


async def test_keys_are_fetched_twice_before_they_are_too_old(made: Make, clock: HandClock) -> None:
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
    made: Make, clock: HandClock
) -> None:
    documents = published(signer())
    keys = made(documents)
    for seconds in (HOUR_S - 1, 1):
        await keys.refresh()
        clock.advance(seconds)
    await keys.refresh()
    assert documents.asked == [DISCOVERY_URL, KEYS_URL, KEYS_URL, DISCOVERY_URL, KEYS_URL]


async def test_the_discovery_is_asked_again_once_the_keys_are_not_where_it_said(
    made: Make, clock: HandClock
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


async def test_the_last_good_set_goes_on_until_it_is_too_old(made: Make, clock: HandClock) -> None:
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


async def test_a_set_that_is_refused_replaces_none(made: Make) -> None:
    documents = published(signer())
    keys = made(documents)
    await keys.refresh()
    documents.publish(signer(kid="a"), signer(kid="a"))
    await keys.refresh()
    assert keys.last_error == "the key set names two keys a"
    assert (list(keys.keys), keys.is_believed()) == (["k-1"], True)


async def test_failures_are_tried_again_further_and_further_apart(
    made: Make, clock: HandClock
) -> None:
    keys = made(Documents())
    pauses = []
    for _ in range(9):
        await keys.refresh()
        pauses.append(keys.due_at - clock.steady())
    assert pauses == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]


async def test_a_success_forgets_the_failures(made: Make, clock: HandClock) -> None:
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


async def test_a_defect_in_a_fetch_does_not_end_them(made: Make, clock: HandClock) -> None:
    class Defective(Documents):
        async def get(self, *args: Any) -> Any:
            raise RuntimeError("a defect")

    keys = made(Defective())
    with pytest.raises(RuntimeError):
        await keys.refresh()
    assert keys.due_at == clock.steady() + key_sets.AGAIN_MOST_S


# Who asks for an unknown kid


async def test_an_unknown_kid_asks_again_and_waits_for_the_answer(
    made: Make, clock: HandClock
) -> None:
    documents = published(signer(kid="a"))
    keys = made(documents)
    await keys.refresh()
    documents.publish(signer(kid="a"), signer(kid="b"))
    clock.advance(10)
    assert await keys.ask() is Reason.KEY_UNKNOWN
    assert "b" in keys.keys


async def test_a_key_that_is_new_since_a_fetch_that_was_due_is_asked_for_at_once(
    made: Make,
) -> None:
    documents = published(signer(kid="a"))
    keys = made(documents)
    await keys.refresh()
    documents.publish(signer(kid="b"))
    assert not isinstance(await keys.find("b"), Reason)


async def test_an_issuer_is_asked_once_in_ten_seconds(made: Make, clock: HandClock) -> None:
    documents = published(signer())
    keys = made(documents)
    for _ in range(600):
        assert await keys.ask() is Reason.KEY_UNKNOWN
        clock.advance(0.1)
    assert documents.asked_for_keys() == 6


async def test_a_thousand_calls_at_once_cost_one_fetch(made: Make) -> None:
    documents = published(signer())
    keys = made(documents)
    documents.gate = asyncio.Event()
    asking = [asyncio.create_task(keys.ask()) for _ in range(key_sets.MOST_WAITING)]
    await asyncio.sleep(0)
    assert await keys.ask() is Reason.ISSUER_UNAVAILABLE  # one too many
    documents.gate.set()
    assert set(await asyncio.gather(*asking)) == {Reason.KEY_UNKNOWN}
    assert documents.asked == [DISCOVERY_URL, KEYS_URL]


async def test_who_asks_during_a_fetch_waits_for_that_one(made: Make) -> None:
    documents = published(signer())
    documents.gate = asyncio.Event()
    keys = made(documents)
    keys.refresh()
    asking = asyncio.create_task(keys.ask())
    await asyncio.sleep(0)
    documents.gate.set()
    assert await asking is Reason.KEY_UNKNOWN
    assert documents.asked_for_keys() == 1


async def test_who_gives_up_takes_the_answer_from_nobody(made: Make) -> None:
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
    made: Make, monkeypatch: pytest.MonkeyPatch
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


async def test_nobody_who_could_not_look_calls_a_token_bad(made: Make, clock: HandClock) -> None:
    documents = published(signer())
    keys = made(documents)
    await keys.refresh()
    documents.there.clear()
    clock.advance(10)
    assert await keys.ask() is Reason.ISSUER_UNAVAILABLE
    assert await keys.ask() is Reason.ISSUER_UNAVAILABLE  # nor who came after the failure
    assert len(documents.asked) == 3


async def test_keys_that_are_too_old_call_no_token_bad(made: Make, clock: HandClock) -> None:
    keys = made(published(signer()), max_stale_s=5)
    assert await keys.ask() is Reason.KEY_UNKNOWN
    clock.advance(5)
    assert await keys.ask() is Reason.ISSUER_UNAVAILABLE


# What is kept


async def test_a_restart_has_the_last_good_set(
    made: Make, kept: KeptKeys, clock: HandClock, tmp_path: Path
) -> None:
    await made(published(signer()), kept).refresh()
    clock.at, clock.steadily = clock.at + 600, 5.0  # the machine started anew
    keys = made(Documents(), kept)
    assert (list(keys.keys), keys.is_believed(), keys.age_s) == (["k-1"], True, 600)
    assert keys.due_at == -math.inf  # and asks at once
    file = tmp_path / "issuers" / "company.json"
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)


async def test_a_kept_set_ages_on(made: Make, kept: KeptKeys, clock: HandClock) -> None:
    await made(published(signer()), kept).refresh()
    clock.advance(HOUR_S - 1)
    keys = made(Documents(), kept, max_stale_s=HOUR_S)
    assert keys.is_believed()
    clock.advance(1)
    assert not keys.is_believed()
    assert not made(Documents(), kept, max_stale_s=HOUR_S).keys


@pytest.mark.parametrize(
    "changed",
    [
        {"issuer": "https://id.example.com/realms/other"},
        {"jwks_uri": "https://id.example.com/other"},
        {"discovery": "https://id.example.com/other"},
    ],
)
async def test_a_set_of_another_place_is_not_used(
    made: Make, kept: KeptKeys, changed: dict[str, str]
) -> None:
    await made(published(signer()), kept).refresh()
    assert not made(Documents(), kept, **changed).keys


async def test_a_set_from_the_future_is_not_used(
    made: Make, kept: KeptKeys, clock: HandClock
) -> None:
    await made(published(signer()), kept).refresh()
    clock.at -= 300
    assert made(Documents(), kept).is_believed()
    clock.at -= 1
    assert not made(Documents(), kept).keys


@pytest.mark.parametrize(
    "spoilt",
    [
        b"",
        b"\xff",
        b"[]",
        b"{}",
        b'{"issuer": "x"}',
        b" " * 600_000,
    ],
)
async def test_a_spoilt_file_is_as_none(
    made: Make, kept: KeptKeys, tmp_path: Path, spoilt: bytes
) -> None:
    await made(published(signer()), kept).refresh()
    (tmp_path / "issuers" / "company.json").write_bytes(spoilt)
    assert not made(Documents(), kept).keys


async def test_a_kept_set_is_judged_as_strictly_as_a_fetched_one(
    made: Make, kept: KeptKeys, tmp_path: Path
) -> None:
    await made(published(signer()), kept).refresh()
    file = tmp_path / "issuers" / "company.json"
    text = file.read_text()
    start = text.index('"keys": "') + 9
    file.write_text(text[:start] + "e30" + '"}')  # {}
    assert not made(Documents(), kept).keys


async def test_a_folder_that_cannot_be_written_harms_no_call(made: Make, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    keys = made(published(signer()), KeptKeys(tmp_path / "file"))
    await keys.refresh()
    assert keys.is_believed()


# Another definition of the same issuer


async def test_another_longest_age_holds_at_once(made: Make, clock: HandClock) -> None:
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
async def test_other_keys_are_not_taken_for_these(made: Make, changed: dict[str, str]) -> None:
    assert made(published(signer())).adopt(issuer(**changed)) is False


async def test_an_end_ends_a_fetch(made: Make) -> None:
    documents = published(signer())
    documents.gate = asyncio.Event()
    keys = made(documents)
    fetching = keys.refresh()
    await keys.close()
    assert fetching.cancelled()
    assert keys.due_at == math.inf
    await keys.close()


@pytest.mark.parametrize("at", ["1" + "0" * 400, "-1" + "0" * 400, "1e300", '"now"', "null"])
async def test_a_kept_file_that_somebody_edited_keeps_no_worker_from_starting(
    tmp_path: Path, clock: HandClock, at: str
) -> None:
    kept = KeptKeys(tmp_path)
    kept.write(issuer(), KeptSet(document(signer()), START))
    [file] = tmp_path.iterdir()
    text = file.read_text().replace(f'"fetched_at": {START}', f'"fetched_at": {at}')
    assert at in text
    clock.advance(0.5)  # as that of a machine
    file.write_text(text)
    tokens = issuer_tokens(Documents(), clock, kept=kept)
    assert not tokens.key_sets["company"].keys
