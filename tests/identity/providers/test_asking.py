"""What a question to a provider costs at most: a real server that is ill."""

from __future__ import annotations

import pytest

from gateway.identity.issuers.fetching import FetchFailed
from gateway.identity.providers.asking import ProviderServers
from tests.identity.issuers.test_fetching import Serve, loopback, serve
from tests.identity.issuers.test_form_posts import Held

__all__ = ["serve"]


async def test_a_provider_that_says_nothing_costs_so_much_time(serve: Serve) -> None:
    servers = ProviderServers(loopback, timeout_s=0.2)
    url = f"http://localhost:{await serve(Held().answer)}/token"
    with pytest.raises(FetchFailed) as told:
        await servers.get(url, None, {})
    assert str(told.value) == f"{url} did not answer within 0.2 s"
    with pytest.raises(FetchFailed) as told:
        await servers.post(url, None, "a=b", {})
    assert str(told.value) == f"{url} did not answer within 0.2 s"
