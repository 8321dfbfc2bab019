from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from typing import Any

import altcha
import pytest

from gateway.identity.sign_in.captcha import Captcha, CaptchaOptions, FallbackNonceStore
from gateway.stores.protocols import StoreUnavailable
from tests.databases import NOON, Hands
from tests.nonces import Once


@pytest.fixture
def clock() -> Hands:
    return Hands()


@pytest.fixture
def once() -> Once:
    return Once()


@pytest.fixture
def captcha(clock: Hands, once: Once) -> Captcha:
    return Captcha(CaptchaOptions(key=b"c" * 32, cost=2, prefix="0"), once, clock)


def solved(challenge: Any) -> dict[str, Any]:
    parsed = altcha.Challenge.from_dict(challenge)
    solution = altcha.solve_challenge(parsed)
    assert solution is not None
    payload: dict[str, Any] = altcha.Payload(parsed, solution).to_dict()
    return payload


def text(payload: object) -> str:
    return base64.b64encode(json.dumps(payload).encode()).decode()


async def test_a_solution_passes_once(captcha: Captcha) -> None:
    solution = text(solved(captcha.challenge()))
    assert await captcha.passed(solution) is True
    assert await captcha.passed(solution) is False


async def test_another_solution_of_a_used_challenge_is_refused(captcha: Captcha) -> None:
    payload = solved(captcha.challenge())
    parsed = altcha.Challenge.from_dict(payload["challenge"])
    again = altcha.solve_challenge(parsed, counter_start=payload["solution"]["counter"] + 1)
    assert again is not None
    other = altcha.Payload(parsed, again).to_dict()
    assert await captcha.passed(text(payload)) is True
    assert await captcha.passed(text(other)) is False


@pytest.mark.parametrize("name", ["cost", "keyLength", "expiresAt"])
async def test_a_number_in_another_spelling_is_refused(captcha: Captcha, name: str) -> None:
    """To what is signed, the text of JavaScript, 2 and 2.0 are one number."""
    payload = solved(captcha.challenge())
    parameters = payload["challenge"]["parameters"]
    parameters[name] = float(parameters[name])
    assert await captcha.passed(text(payload)) is False


async def test_of_many_at_once_one_passes(captcha: Captcha) -> None:
    solution = text(solved(captcha.challenge()))
    passed = await asyncio.gather(*(captcha.passed(solution) for _ in range(20)))
    assert sum(passed) == 1


async def test_a_solution_expires_with_its_challenge(captcha: Captcha, clock: Hands) -> None:
    solution = text(solved(captcha.challenge()))
    clock.move(300)
    assert await captcha.passed(solution) is False


@pytest.mark.parametrize(("after_s", "left_s"), [(0, 305), (1.5, 303), (299, 6)])
async def test_what_was_used_is_remembered_until_it_would_have_expired(
    captcha: Captcha, once: Once, clock: Hands, after_s: float, left_s: int
) -> None:
    challenge = captcha.challenge()
    clock.move(after_s)
    assert await captcha.passed(text(solved(challenge)))
    nonce = str(challenge["parameters"]["nonce"]).encode()
    assert once.claimed == {f"captcha:{hashlib.sha256(nonce).hexdigest()[:32]}": left_s}


async def test_a_challenge_is_what_the_options_say(captcha: Captcha) -> None:
    parameters = captcha.challenge()["parameters"]
    assert (parameters["algorithm"], parameters["cost"]) == ("PBKDF2/SHA-256", 2)
    assert (parameters["keyPrefix"], parameters["expiresAt"]) == ("0", NOON + 300)


@pytest.mark.parametrize(("length", "passes"), [(4096, True), (4100, False)])
async def test_a_solution_has_at_most_4096_characters(
    captcha: Captcha, length: int, passes: bool
) -> None:
    payload = {**solved(captcha.challenge()), "more": ""}
    payload["more"] = "x" * (length // 4 * 3 - len(json.dumps(payload)))
    assert len(text(payload)) == length
    assert await captcha.passed(text(payload)) is passes


async def test_a_solution_with_anything_between_its_letters_is_refused(captcha: Captcha) -> None:
    solution = text(solved(captcha.challenge()))
    for junk in ("\n", "!", "é"):
        assert await captcha.passed(solution[:8] + junk + solution[8:]) is False


async def test_a_challenge_or_a_solution_that_is_no_object_is_refused(captcha: Captcha) -> None:
    payload = solved(captcha.challenge())
    parameters = payload["challenge"]["parameters"]
    for wrong in (
        {**payload, "solution": []},
        {**payload, "solution": "x"},
        {**payload, "challenge": {**payload["challenge"], "parameters": list(parameters)}},
        {"challenge": payload["challenge"]},
        {"solution": payload["solution"]},
    ):
        assert await captcha.passed(text(wrong)) is False


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("expiresAt", 4_000_000_000),
        ("expiresAt", None),
        ("cost", 1),
        ("keyPrefix", ""),
        ("nonce", "00" * 16),
        ("salt", "00" * 16),
        ("keyLength", 1),
        ("algorithm", "SHA-256"),
        ("keySignature", "00"),
        ("data", {"a": 1}),
    ],
)
async def test_a_challenge_that_was_edited_is_refused(
    captcha: Captcha, name: str, value: object
) -> None:
    """CVE-2025-68113: the expiry could be spliced into a signed challenge."""
    payload = solved(captcha.challenge())
    payload["challenge"]["parameters"][name] = value
    solution = altcha.solve_challenge(altcha.Challenge.from_dict(payload["challenge"]), timeout=5)
    assert solution is not None
    payload["solution"] = solution.to_dict()
    assert await captcha.passed(text(payload)) is False


async def test_a_huge_cost_that_was_not_signed_costs_nothing(captcha: Captcha) -> None:
    payload = solved(captcha.challenge())
    payload["challenge"]["parameters"]["cost"] = 10**9
    async with asyncio.timeout(60):
        assert await captcha.passed(text(payload)) is False


async def test_a_challenge_of_another_key_is_refused(captcha: Captcha, clock: Hands) -> None:
    other = Captcha(CaptchaOptions(key=b"x" * 32, cost=2, prefix="0"), Once(), clock)
    assert await captcha.passed(text(solved(other.challenge()))) is False


async def test_a_wrong_solution_is_refused_and_may_be_tried_again(captcha: Captcha) -> None:
    payload = solved(captcha.challenge())
    wrong = {**payload, "solution": {"counter": 0, "derivedKey": "00" * 32}}
    assert await captcha.passed(text(wrong)) is False
    assert await captcha.passed(text(payload)) is True


async def test_a_solution_that_cannot_be_marked_as_used_is_not_taken(
    captcha: Captcha, once: Once
) -> None:
    once.away = True
    with pytest.raises(StoreUnavailable):
        await captcha.passed(text(solved(captcha.challenge())))


@pytest.mark.parametrize(
    "what",
    [
        "",
        "x",
        "é",
        "a" * 5000,
        text([]),
        text({}),
        text({"challenge": 1, "solution": 1}),
        text({"challenge": {"parameters": {}}, "solution": {}}),
        text({"challenge": {"parameters": []}, "solution": {"counter": 1, "derivedKey": ""}}),
        text({"challenge": None, "solution": None}),
        text("[" * 900),
        base64.b64encode(b"[" * 2900).decode(),
        base64.b64encode(b"\xff\xfe").decode(),
    ],
)
async def test_anything_else_is_refused(captcha: Captcha, what: str) -> None:
    assert await captcha.passed(what) is False


@pytest.mark.parametrize("field", ["counter", "derivedKey"])
@pytest.mark.parametrize("value", [None, [], {}, -1, 2**40, "x", 1.5, True])
async def test_a_solution_of_the_wrong_types_is_refused(
    captcha: Captcha, field: str, value: object
) -> None:
    payload = solved(captcha.challenge())
    payload["solution"][field] = value
    assert await captcha.passed(text(payload)) is False


async def test_while_the_store_is_away_each_worker_takes_a_solution_once(
    clock: Hands, once: Once
) -> None:
    options = CaptchaOptions(key=b"c" * 32, cost=2, prefix="0")
    captcha = Captcha(options, FallbackNonceStore(once, clock), clock)
    solution = text(solved(captcha.challenge()))
    once.away = True
    assert await captcha.passed(solution) is True
    assert await captcha.passed(solution) is False
    once.away = False
    assert await captcha.passed(solution) is False


async def test_what_is_remembered_while_the_store_is_away_is_bounded(
    clock: Hands, once: Once
) -> None:
    once.away = True
    used = FallbackNonceStore(once, clock, most=10)
    for number in range(50):
        assert await used.claim(f"{number}", 60)
    assert len(used._own) <= 10
    assert not await used.claim("49", 60)
    clock.move(61)
    assert await used.claim("50", 60)
    assert len(used._own) == 1


async def test_what_was_used_first_makes_room_while_the_store_is_away(
    clock: Hands, once: Once
) -> None:
    once.away = True
    used = FallbackNonceStore(once, clock, most=2)
    for key in ("a", "b", "c"):
        assert await used.claim(key, 60)
    assert not await used.claim("c", 60)
    assert not await used.claim("b", 60)
    assert await used.claim("a", 60)


async def test_in_memory_a_solution_is_forgotten_once_it_would_have_expired(
    clock: Hands, once: Once
) -> None:
    once.away = True
    used = FallbackNonceStore(once, clock)
    assert await used.claim("a", 60)
    clock.move(59)
    assert await used.claim("b", 60)
    assert not await used.claim("a", 60)
    clock.move(1)
    assert await used.claim("c", 60)
    assert await used.claim("a", 60)
    assert not await used.claim("b", 60)


async def test_fifty_thousand_solutions_are_remembered_at_most(clock: Hands, once: Once) -> None:
    once.away = True
    used = FallbackNonceStore(once, clock)
    for number in range(50_001):
        await used.claim(str(number), 60)
    assert len(used._own) == 50_000


async def test_the_store_is_asked_with_the_key_and_the_life(clock: Hands, once: Once) -> None:
    assert await FallbackNonceStore(once, clock).claim("a", 60)
    assert once.claimed == {"a": 60}
