"""The keys that verify what an issuer tells: those of its access tokens, asked for alike."""

from __future__ import annotations

import pytest

from gateway.identity.issuers.key_sets import ASK_EVERY_S
from gateway.model import Reason
from tests.identity.issuers.provider import (
    fetched,
    issuer,
    issuer_tokens,
    published,
    signer,
)
from tests.identity.keyring import HandClock

KEY, NEXT = signer("ES256", "k-1"), signer("ES256", "k-2")


async def test_a_known_key_is_found_without_asking() -> None:
    documents = published(KEY)
    tokens = await fetched(issuer_tokens(documents, HandClock()))
    key = await tokens.find(issuer(), "k-1")
    assert not isinstance(key, Reason)
    assert key.verifies("ES256", b"text", KEY.signature(b"text"))
    assert documents.asked_for_keys() == 1


async def test_an_unknown_key_is_asked_for_once_in_a_while() -> None:
    documents, clock = published(KEY), HandClock()
    tokens = await fetched(issuer_tokens(documents, clock))
    documents.publish(KEY, NEXT)
    clock.advance(ASK_EVERY_S)
    assert not isinstance(await tokens.find(issuer(), "k-2"), Reason)
    for number in range(100):
        assert await tokens.find(issuer(), f"made-up-{number}") is Reason.KEY_UNKNOWN
    assert documents.asked_for_keys() == 2


@pytest.mark.parametrize("known", [True, False])
async def test_what_cannot_be_asked_is_unavailable(known: bool) -> None:
    documents, clock = published(KEY), HandClock()
    if not known:
        documents.there.clear()
    tokens = await fetched(issuer_tokens(documents, clock))
    documents.there.clear()
    clock.advance(issuer().max_stale_s + 1)
    assert await tokens.find(issuer(), "k-1") is Reason.ISSUER_UNAVAILABLE


async def test_an_issuer_that_is_not_of_the_configuration_has_no_keys() -> None:
    tokens = await fetched(issuer_tokens(published(KEY), HandClock()))
    assert await tokens.find(issuer("another"), "k-1") is Reason.ISSUER_UNAVAILABLE
