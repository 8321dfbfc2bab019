"""The memory of verified tokens: what it holds, and what it lets go of."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.identity.tokens.authenticator import TokenCache
from tests.identity.presented import someone


def test_the_memory_never_holds_more_than_it_may() -> None:
    memory = TokenCache(100, 1_000_000)
    for number in range(10_000):
        memory.keep(f"token-{number}", someone())
        assert len(memory) <= 100


def test_long_texts_are_bounded_by_their_length_together() -> None:
    memory = TokenCache(1_000_000, 100_000)
    texts = [f"{number:08d}" * 1024 for number in range(100)]
    for text in texts:
        memory.keep(text, someone())
    assert sum(len(text) for text in texts if memory.get(text)) <= 100_000


@pytest.mark.parametrize("most", [2, 3, 4, 5])
def test_the_two_generations_together_hold_at_most_what_it_may(most: int) -> None:
    memory = TokenCache(most, 1_000_000)
    for number in range(20):
        memory.keep(f"token-{number}", someone())
        assert len(memory) <= most
    assert len(memory) >= most // 2


@pytest.mark.parametrize("before", ["nothing", "cleared", "swept"])
def test_a_generation_is_full_at_exactly_half_of_the_text(before: str) -> None:
    memory = TokenCache(1_000, 20)
    if before != "nothing":
        memory.keep("0" * 10, someone())
    if before == "cleared":
        memory.clear()
    elif before == "swept":
        memory.sweep(10)
    held = []
    for letter in "abcde":
        memory.keep(letter * 5, someone())
        held.append(len(memory))
    assert held == [1, 2, 3, 4, 3]


def test_a_swept_memory_counts_the_texts_that_it_still_holds() -> None:
    memory = TokenCache(1_000, 20)
    memory.keep("a" * 5, someone())
    memory.sweep(0)
    held = []
    for letter in "bcd":
        memory.keep(letter * 5, someone())
        held.append(len(memory))
    assert held == [2, 3, 4]
    memory.keep("e" * 5, someone())
    assert memory.get("a" * 5) is None


def test_both_generations_are_dropped_of_who_is_meant() -> None:
    memory = TokenCache(4, 1_000_000)
    theirs = replace(someone(), issuer="company")
    memory.keep("old", theirs)
    memory.keep("old of ours", someone())
    memory.keep("young", theirs)
    memory.keep("young of ours", someone())
    memory.drop(lambda principal: principal.issuer == "company")
    assert len(memory) == 2
    assert memory.get("old of ours")
    assert memory.get("young of ours")


def test_both_generations_are_swept() -> None:
    memory = TokenCache(4, 1_000_000)
    lasting = replace(someone(), expires_at=11)
    memory.keep("old", someone())
    memory.keep("old but lasting", lasting)
    memory.keep("young", someone())
    memory.keep("young and lasting", lasting)
    assert len(memory) == 4
    memory.sweep(10)
    assert len(memory) == 2
    assert memory.get("old but lasting") is memory.get("young and lasting") is lasting


def test_a_token_that_is_in_use_outlives_those_that_are_not() -> None:
    memory = TokenCache(100, 1_000_000)
    principal = someone()
    memory.keep("used", principal)
    for number in range(1000):
        memory.keep(f"token-{number}", someone())
        assert memory.get("used") is principal


def test_a_swept_memory_holds_what_has_not_expired() -> None:
    memory = TokenCache(100, 1_000_000)
    memory.keep("old", someone())
    memory.keep("new", replace(someone(), expires_at=20))
    memory.sweep(10)
    assert memory.get("old") is None
    assert memory.get("new")
