from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.deploy.helm import Helm, started_helm


@pytest.fixture(scope="module")
def helm() -> Iterator[Helm]:
    with started_helm() as running:
        yield running
