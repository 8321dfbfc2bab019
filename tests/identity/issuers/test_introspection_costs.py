"""What it costs to ask an issuer about tokens: what is remembered, who waits, who is left alone."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import structlog
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from gateway.access.issuers import ClientAssertionKey
from gateway.access.secret_text import SecretText
from gateway.identity.issuers import asking_lane
from gateway.identity.issuers import introspection as module
from gateway.identity.issuers.fetching import AnswerTooLong, FetchFailed
from gateway.identity.issuers.form_posts import PostRefused
from gateway.identity.issuers.introspection import Introspector
from gateway.model import Principal, Reason
from tests.cpu_cost import awaited_cost_ratio
from tests.identity.issuers.asked_issuer import ACTIVE, COMPANY, OPAQUE, Door, asking, made
from tests.identity.issuers.provider import Answers, Documents, issuer_tokens
from tests.identity.keyring import Gate, HandClock, rsa_key
from tests.identity.presented import BEARER, call_with
from tests.revocation.virtual_time import VirtualTimeLoop


class Slow(Answers):
    """An issuer that takes its time."""

    def __init__(self, seconds: float) -> None:
        super().__init__({OPAQUE: ACTIVE})
        self._seconds = seconds

    async def post(
        self, url: str, form: Mapping[str, str], fields: Mapping[str, str], bytes_max: int
    ) -> bytes:
        await asyncio.sleep(self._seconds)
        return await super().post(url, form, fields, bytes_max)


def alone(clock: HandClock, posts: Answers, asked: Callable[[str, str], None]) -> Introspector:
    """Who asks, with nobody before it; `asked` is told what came of each question."""
    verifier = (
        issuer_tokens(Documents(), clock, asking(), posts=posts).introspectors["company"].verifier
    )
    assert verifier.issuer.introspection is not None
    return Introspector(
        verifier, verifier.issuer.introspection, posts, Documents(), clock, asked=asked
    )


async def test_nothing_is_remembered_unless_the_configuration_says_so(
    door: Door, posts: Answers
) -> None:
    for _ in range(3):
        assert isinstance(await door.asks(), Principal)
    assert len(posts.asked) == 3
    posts.of[OPAQUE] = {"active": False}
    assert await door.asks() is Reason.TOKEN_REVOKED
    assert len(door.authenticator) == 0


async def test_an_active_answer_is_remembered_for_as_long_as_the_configuration_says(
    gate: Gate, posts: Answers, clock: HandClock
) -> None:
    door = made(gate, posts, asking(cache_s=30))
    first = await door.asks()
    clock.advance(29.9)
    assert await door.asks() is first
    posts.of[OPAQUE] = {"active": False}
    clock.advance(0.1)
    assert await door.asks() is Reason.TOKEN_REVOKED
    assert await door.asks() is Reason.TOKEN_REVOKED
    assert len(posts.asked) == 2


async def test_an_inactive_answer_is_remembered_for_five_seconds(
    door: Door, posts: Answers, clock: HandClock
) -> None:
    for _ in range(100):
        assert await door.asks("made-up-by-a-stranger") is Reason.TOKEN_REVOKED
    assert len(posts.asked) == 1
    clock.advance(5)
    await door.asks("made-up-by-a-stranger")
    assert len(posts.asked) == 2


async def test_what_is_made_up_pushes_nobody_out(
    gate: Gate, posts: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_REMEMBERED_MOST", 10)
    door = made(gate, posts, asking(cache_s=30))
    await door.asks()
    for number in range(100):
        await door.asks(f"made-up-number-{number}")
    asked = len(posts.asked)
    assert isinstance(await door.asks(), Principal)
    assert len(posts.asked) == asked


async def test_calls_with_one_token_wait_for_one_answer(door: Door, posts: Answers) -> None:
    posts.gate = asyncio.Event()
    calls = [asyncio.create_task(door.asks()) for _ in range(100)]
    for _ in range(5):
        await asyncio.sleep(0)
    calls[0].cancel()  # who gives up takes the answer from nobody
    posts.gate.set()
    got = await asyncio.gather(*calls[1:])
    assert all(isinstance(one, Principal) for one in got)
    assert len(posts.asked) == 1


async def test_an_issuer_is_asked_of_so_many_tokens_at_once(door: Door, posts: Answers) -> None:
    posts.gate = asyncio.Event()
    calls = door.strangers(module.MOST_WAITING)
    while len(posts.asked) < module.AT_ONCE:
        await asyncio.sleep(0)
    for _ in range(5):
        await asyncio.sleep(0)
    assert len(posts.asked) == module.AT_ONCE
    assert await door.asks("one-too-many") is Reason.ISSUER_UNAVAILABLE
    posts.gate.set()
    assert set(await asyncio.gather(*calls)) == {Reason.TOKEN_REVOKED}


async def test_who_finds_no_place_says_nothing_of_the_issuer(
    door: Door, posts: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PLACE_WAIT_S", 0.02)
    monkeypatch.setattr(module, "ASK_WAIT_S", 0.05)
    monkeypatch.setattr(asking_lane, "FAILURES_MOST", module.AT_ONCE + 1)
    posts.gate = asyncio.Event()
    calls = door.strangers(2 * module.AT_ONCE)
    assert set(await asyncio.gather(*calls)) == {Reason.ISSUER_UNAVAILABLE}
    posts.gate.set()
    assert isinstance(await door.asks(), Principal)


def test_strangers_who_ask_more_than_an_issuer_can_answer_close_it_to_nobody(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who had a place when its time was nearly over says nothing of the issuer either."""
    monkeypatch.setattr(module, "PLACE_WAIT_S", 0.2)
    monkeypatch.setattr(module, "ASK_WAIT_S", 0.2)

    async def flooded() -> Principal | Reason:
        door = made(gate, Slow(0.12))
        await asyncio.gather(*door.strangers(5 * module.AT_ONCE))
        return await door.asks()

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        assert isinstance(runner.run(flooded()), Principal)


async def test_a_token_that_was_good_waits_behind_none_that_is_made_up(
    door: Door, posts: Answers, clock: HandClock
) -> None:
    assert isinstance(await door.asks(), Principal)
    posts.gate = asyncio.Event()
    strangers = door.strangers(module.MOST_WAITING)
    while len(posts.asked) < 1 + module.AT_ONCE:
        await asyncio.sleep(0)
    mine = asyncio.create_task(door.asks())
    for _ in range(5):
        await asyncio.sleep(0)
    assert posts.asked[-1][1]["token"] == OPAQUE
    posts.gate.set()
    assert isinstance(await mine, Principal)
    await asyncio.gather(*strangers)
    posts.of[OPAQUE] = {"active": False}
    assert await door.asks() is Reason.TOKEN_REVOKED
    # From now on it is one of the others.
    posts.gate = asyncio.Event()
    clock.advance(module.INACTIVE_S)
    strangers = door.strangers(module.MOST_WAITING)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert await door.asks() is Reason.ISSUER_UNAVAILABLE
    posts.gate.set()
    await asyncio.gather(*strangers)


async def test_who_makes_tokens_up_takes_a_share_of_what_an_issuer_is_asked(
    door: Door, posts: Answers
) -> None:
    posts.gate = asyncio.Event()
    calls = [
        asyncio.create_task(door.asks(f"made-up-number-{number}"))
        for number in range(module.UNKNOWN_OF_ADDRESS)
    ]
    while len(posts.asked) < len(calls):
        await asyncio.sleep(0)
    assert await door.asks("one-too-many") is Reason.ISSUER_UNAVAILABLE
    [other] = door.strangers(1, OPAQUE)
    posts.gate.set()
    assert isinstance(await other, Principal)
    assert set(await asyncio.gather(*calls)) == {Reason.TOKEN_REVOKED}
    assert await door.asks("one-too-many") is Reason.TOKEN_REVOKED


async def test_a_text_at_which_an_issuer_fails_closes_it_to_no_token_that_was_good(
    door: Door, posts: Answers
) -> None:
    assert isinstance(await door.asks(), Principal)
    posts.of["text-of-a-stranger"] = FetchFailed("answered 500")
    for _ in range(2 * asking_lane.FAILURES_MOST):
        assert await door.asks("text-of-a-stranger") is Reason.ISSUER_UNAVAILABLE
    assert isinstance(await door.asks(), Principal)


@pytest.mark.parametrize("answer", [b"<html>", b"[]", AnswerTooLong("more than 16 KiB")])
async def test_an_answer_about_one_token_that_cannot_be_read_closes_it_to_no_other(
    door: Door, posts: Answers, answer: Any
) -> None:
    """Somebody is in ten thousand groups."""
    posts.of["of-ten-thousand-groups"] = answer
    for _ in range(2 * asking_lane.FAILURES_MOST):
        assert await door.asks("of-ten-thousand-groups") is Reason.ISSUER_UNAVAILABLE
    assert isinstance(await door.asks(), Principal)


async def test_an_issuer_that_is_back_is_asked_again_whoever_tries_it(
    door: Door, posts: Answers, clock: HandClock
) -> None:
    posts.of[OPAQUE] = FetchFailed("away")
    for _ in range(asking_lane.FAILURES_MOST):
        await door.asks()
    posts.of = {OPAQUE: ACTIVE, "odd-text-of-a-stranger": PostRefused("answered 400")}
    clock.advance(asking_lane.REST_S)
    assert await door.asks("odd-text-of-a-stranger") is Reason.ISSUER_UNAVAILABLE
    assert isinstance(await door.asks(), Principal)


async def test_failing_and_working_by_turns_is_told_once_a_minute(
    door: Door, posts: Answers, clock: HandClock
) -> None:
    posts.of["odd-text-of-a-stranger"] = PostRefused("answered 400")
    failed = {"event": "introspection-failed", "log_level": "warning", "why": "answered 400"}
    works = {"event": "introspection-works", "log_level": "info"}
    told = [{**line, "issuer": "company"} for line in (failed, works)]
    with structlog.testing.capture_logs() as lines:
        for _ in range(50):
            await door.asks("odd-text-of-a-stranger")
            await door.asks()
        assert lines == told
        clock.advance(module.TELL_EVERY_S)
        await door.asks("odd-text-of-a-stranger")
        await door.asks()
    assert lines == 2 * told


async def test_to_prove_who_asks_costs_little_more_than_a_signature(gate: Gate) -> None:
    """To read an RSA key takes a hundred times as long, and nobody else is served meanwhile."""
    pem = rsa_key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    key = ClientAssertionKey(SecretText(pem), "RS256")
    door = made(gate, Answers(), asking(secret=None, key=key))
    numbers = itertools.count()

    async def ask() -> None:
        assert await door.asks(f"made-up-number-{next(numbers)}") is Reason.TOKEN_REVOKED

    signing = rsa_key()
    ratio = await awaited_cost_ratio(ask, lambda: signing.sign(b"a", PKCS1v15(), SHA256()))
    assert ratio < 10


async def test_an_issuer_that_fails_is_left_alone_and_tried_with_one_token(
    door: Door, posts: Answers, clock: HandClock
) -> None:
    posts.of[OPAQUE] = FetchFailed("away")
    for _ in range(20):
        assert await door.asks() is Reason.ISSUER_UNAVAILABLE
    assert len(posts.asked) == asking_lane.FAILURES_MOST
    clock.advance(asking_lane.REST_S)
    for _ in range(20):
        assert await door.asks() is Reason.ISSUER_UNAVAILABLE
    assert len(posts.asked) == asking_lane.FAILURES_MOST + 1
    posts.of[OPAQUE] = ACTIVE
    clock.advance(asking_lane.REST_S)
    assert isinstance(await door.asks(), Principal)
    assert door.introspector.last_error is None
    posts.of[OPAQUE] = FetchFailed("away")
    await door.asks()
    posts.of[OPAQUE] = ACTIVE
    assert isinstance(await door.asks(), Principal)


async def test_while_one_token_tries_an_issuer_that_failed_no_other_is_asked_about(
    door: Door, posts: Answers, clock: HandClock
) -> None:
    posts.of["of-a-stranger"] = FetchFailed("away")
    for _ in range(asking_lane.FAILURES_MOST):
        await door.asks("of-a-stranger")
    posts.gate = asyncio.Event()
    clock.advance(asking_lane.REST_S)
    [trying] = door.strangers(1, OPAQUE)
    await asyncio.sleep(0)
    assert await door.asks("another-token-of-theirs") is Reason.ISSUER_UNAVAILABLE
    posts.gate.set()
    assert isinstance(await trying, Principal)
    assert await door.asks("another-token-of-theirs") is Reason.TOKEN_REVOKED


async def test_failures_are_counted_anew_from_each_answer_on(door: Door, posts: Answers) -> None:
    posts.of |= {"away-for-one": FetchFailed("away"), "odd-text": PostRefused("answered 400")}
    for _ in range(3):
        await door.asks("odd-text")
        for _ in range(asking_lane.FAILURES_MOST - 1):
            await door.asks("away-for-one")
    assert isinstance(await door.asks(), Principal)


async def test_an_issuer_that_does_not_answer_is_asked_no_longer_than_a_call_waits(
    clock: HandClock, posts: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ASK_WAIT_S", 0.05)
    posts.gate, told = asyncio.Event(), asyncio.Event()
    introspector = alone(clock, posts, lambda _issuer, _outcome: told.set())
    assert await introspector.ask(OPAQUE, "192.0.2.1") is Reason.ISSUER_UNAVAILABLE
    async with asyncio.timeout(60):
        await told.wait()
    assert introspector.last_error == "it did not answer within 0.05 s"


async def test_no_call_waits_for_a_question_that_had_to_wait_for_its_place(
    clock: HandClock, posts: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ASK_WAIT_S", 0.1)
    monkeypatch.setattr(asking_lane, "FAILURES_MOST", module.AT_ONCE + 1)
    posts.gate = asyncio.Event()
    told: list[str] = []
    introspector = alone(clock, posts, lambda _issuer, outcome: told.append(outcome))
    asking = [
        asyncio.create_task(introspector.ask(f"number-{number}", f"192.{number}.2.1"))
        for number in range(module.AT_ONCE + 1)
    ]
    assert await asking[-1] is Reason.ISSUER_UNAVAILABLE
    assert len(told) <= module.AT_ONCE  # its own question goes on
    await introspector.close()
    assert told == ["unreachable"] * (module.AT_ONCE + 1)


async def test_a_text_that_the_issuer_does_not_like_closes_it_to_nobody(
    door: Door, posts: Answers
) -> None:
    posts.of["odd-text-of-a-stranger"] = PostRefused("answered 400")
    for _ in range(20):
        assert await door.asks("odd-text-of-a-stranger") is Reason.ISSUER_UNAVAILABLE
    assert door.introspector.last_error == "answered 400"
    assert isinstance(await door.asks(), Principal)


async def test_each_question_is_told_with_its_outcome(clock: HandClock, posts: Answers) -> None:
    told: list[tuple[str, str]] = []
    introspector = alone(clock, posts, lambda name, outcome: told.append((name, outcome)))
    posts.of |= {"away": FetchFailed("away"), "refused": PostRefused("answered 401")}
    for text in (OPAQUE, "inactive", "away", "refused"):
        await introspector.ask(text, "192.0.2.1")
    outcomes = ["active", "inactive", "unreachable", "refused"]
    assert told == [("company", outcome) for outcome in outcomes]


async def test_what_is_remembered_is_at_hand_without_a_wait(gate: Gate, posts: Answers) -> None:
    door = made(gate, posts, asking(cache_s=30))
    call = call_with(OPAQUE)
    assert door.authenticator.authenticate_now(call, BEARER, COMPANY) is None
    principal = await door.asks()
    assert door.authenticator.authenticate_now(call, BEARER, COMPANY) is principal
