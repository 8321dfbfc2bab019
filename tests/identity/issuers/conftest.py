"""An issuer that calls one token active, who asks it, and who judges a token."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.access.issuers import Issuer
from gateway.model import Principal, Reason
from tests.identity.issuers.asked_issuer import ACTIVE, OPAQUE, Door, made
from tests.identity.issuers.provider import Answers, Signer, issuer
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
