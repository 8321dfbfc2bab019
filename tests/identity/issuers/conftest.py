"""An issuer that calls one token active, and who asks it."""

from __future__ import annotations

import pytest

from tests.identity.issuers.asked_issuer import ACTIVE, OPAQUE, Door, made
from tests.identity.issuers.provider import Answers
from tests.identity.keyring import Gate


@pytest.fixture
def posts() -> Answers:
    return Answers({OPAQUE: ACTIVE})


@pytest.fixture
def door(gate: Gate, posts: Answers) -> Door:
    return made(gate, posts)
