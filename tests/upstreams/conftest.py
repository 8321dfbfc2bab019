"""One gateway for the package, and behind it the upstreams that the tests ask for."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.contract.running import Running, started
from tests.upstreams.started import Upstreams


@pytest.fixture(scope="session")
def upstreams(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Upstreams]:
    planned = Upstreams.planned(tmp_path_factory.mktemp("upstreams") / "files")
    try:
        yield planned
    finally:
        planned.stop()


@pytest.fixture(scope="session")
def front(upstreams: Upstreams, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """The gateway; it takes the machine itself for a trusted proxy, so that tests can be one."""
    folder = tmp_path_factory.mktemp("front") / "g"
    settings = {"GATEWAY_TRUSTED_PROXIES": "127.0.0.1/32"}
    with started(folder, routes=upstreams.routes, **settings) as running:
        yield running


@pytest.fixture(scope="session")
def token(front: Running) -> str:
    return str(front.sign_in("ada@example.com")["access_token"])


@pytest.fixture(scope="session")
def user(front: Running, token: str) -> str:
    return str(front.users["ada@example.com"]["user_id"])
