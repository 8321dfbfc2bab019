"""An issuer that calls one token active, who asks it, who judges a token; and its keys as one worker
knows them."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.access.issuers import Issuer
from gateway.identity.issuers.kept_keys import KeptKeys
from gateway.identity.issuers.key_sets import KeySet, KeySetDependencies
from gateway.model import Principal, Reason
from tests.identity.issuers.asked_issuer import ACTIVE, OPAQUE, Door, made
from tests.identity.issuers.provider import Answers, Documents, MakeKeySet, Signer, issuer
from tests.identity.issuers.verdicts import KEY, Judge, verdict
from tests.identity.keyring import Gate, HandClock


@pytest.fixture
def posts() -> Answers:
    return Answers({OPAQUE: ACTIVE})


@pytest.fixture
def door(gate: Gate, posts: Answers) -> Door:
    return made(gate, posts)


@pytest.fixture
def judged(clock: HandClock) -> Judge:
    """The verdict on a token with these claims over CLAIMS; `...` leaves one out."""

    def judge(
        of: Issuer | None = None,
        header: dict[str, Any] | None = None,
        key: Signer = KEY,
        **claims: Any,
    ) -> Principal | Reason:
        return verdict(of or issuer(), clock, key.token(header=header, **claims))

    return judge


@pytest.fixture(name="made")
def make_key_set(clock: HandClock) -> MakeKeySet:
    """Its next fetch is due as early as it may be: `spread` would put it off."""

    def make(documents: Documents, kept: KeptKeys | None = None, **changed: Any) -> KeySet:
        dependencies = KeySetDependencies(documents, kept, clock, spread=lambda: 0.0)
        return KeySet(issuer(**changed), dependencies)

    return make
