from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.running import Running, started


@pytest.fixture(scope="session")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder: Path = tmp_path_factory.mktemp("contract") / "g"
    with started(folder, GATEWAY_SIGNING_ALG="RS256") as running:  # as nobody has chosen
        yield running


@pytest.fixture
def alice(gateway: Running) -> dict[str, object]:
    """A signed-in account without roles; anew for each test, as some revoke the keys."""
    return gateway.sign_in("Alice@Example.com")
