"""A back-channel logout on two nodes with two workers each: its 200 is true everywhere.

What asks and counts is `bench.backchannel`, over real sockets.
"""

from __future__ import annotations

import asyncio
import base64
import os
import signal
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from bench.backchannel import LOGOUT_PATH, Connection, Counts, Provider, measure
from tests.contract.answers import Answer
from tests.contract.running import Running, started
from tests.e2e.processes import until, workers
from tests.fixtures_stores import schema_of
from tests.scale import scaled
from tests.servers import ValkeyServer

pytestmark = pytest.mark.slow

CONNECTIONS = 24
ROUTES = """\
version: 1
issuers:
  company:
    issuer: https://id.example.com/realms/main
    jwks_uri: http://127.0.0.1:{keys}/keys
    audience: api
    backchannel_logout: true
    events: true
routes:
  - id: api
    match: {{{{prefix: /api}}}}
    issuers: [company]
    policy: signed-in
    direct_response: {{{{status: 200, body: you are known}}}}
"""


@dataclass
class Site:
    nodes: Sequence[Running]
    provider: Provider
    valkey: ValkeyServer

    def counts(self, logouts: int, *, with_session: bool) -> Counts:
        return asyncio.run(
            measure(
                [node.port for node in self.nodes],
                self.provider,
                connections=CONNECTIONS,
                logouts=logouts,
                with_session=with_session,
            )
        )

    def told(self, name: str) -> Answer:
        """What a logout of the session is answered, at the first node."""
        return posted(self.nodes[0], self.provider.logout_token(name))


def posted(node: Running, logout_token: str) -> Answer:
    kind = ("Content-Type", "application/x-www-form-urlencoded")
    return node.call("POST", LOGOUT_PATH, kind, body=f"logout_token={logout_token}".encode())


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, postgres_database_url: str) -> Iterator[Site]:
    folder: Path = tmp_path_factory.mktemp("backchannel")
    provider, valkey = Provider(), ValkeyServer(folder / "valkey").start()
    try:
        with (
            ExitStack() as running,
            schema_of(postgres_database_url) as url,
            provider.keys_served() as keys,
        ):
            settings = {
                "GATEWAY_DATABASE_URL": url,
                "GATEWAY_REDIS_URL": valkey.url,
                "GATEWAY_KEY_SECRET": base64.b64encode(os.urandom(32)).decode(),
                "GATEWAY_PUBLIC_URL": "http://127.0.0.1:8080",
                "GATEWAY_MAX_STALENESS_S": "2",
            }
            routes = ROUTES.format(keys=keys)
            nodes = [
                running.enter_context(
                    started(folder / name, "--workers", "2", routes=routes, **settings)
                )
                for name in ("one", "two")
            ]
            for node in nodes:
                until(lambda node=node: len(workers(node)) == 2, 20)  # type: ignore[misc]
            yield Site(nodes, provider, valkey)
    finally:
        valkey.kill()


@pytest.mark.parametrize("with_session", [True, False], ids=["by-session", "by-subject"])
def test_no_call_that_is_sent_after_the_200_is_accepted(site: Site, with_session: bool) -> None:
    logouts = scaled(60)
    counts = site.counts(logouts, with_session=with_session)
    assert len(counts.logout_s) == logouts
    assert counts.asked_after >= logouts * CONNECTIONS * 2
    assert counts.accepted_after == 0


def test_a_logout_token_is_taken_once_by_all_nodes_together(site: Site) -> None:
    """However many come at once: whoever is not the first is told to come again, or that it was
    taken."""
    text = site.provider.logout_token(site.provider.begin_session())
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda n: posted(site.nodes[n % 2], text), range(16)))
    statuses = Counter(answer.status for answer in answers)
    assert statuses[200] == 1
    assert statuses.keys() <= {200, 400, 503}
    for node in site.nodes:
        assert posted(node, text).status == 400


def test_while_a_worker_stands_still_the_provider_is_told_to_come_again(site: Site) -> None:
    """And the worker that stood still refuses the token once it goes on."""
    name = site.provider.begin_session()
    token = site.provider.access_token(name)
    stopped = workers(site.nodes[1])[0]
    connections = [Connection(site.nodes[1].port) for _ in range(8)]

    async def statuses() -> set[int]:
        return set(await asyncio.gather(*(one.call(token) for one in connections)))

    with asyncio.Runner() as runner:
        until(lambda: runner.run(statuses()) == {200}, 20)
        os.kill(stopped, signal.SIGSTOP)
        try:
            first = site.told(name)
            assert (first.status, first.json["reason"]) == (503, "revocation_pending")
            assert first.get("retry-after") == "1"
            until(lambda: site.told(name).status == 200, 20)
        finally:
            os.kill(stopped, signal.SIGCONT)
        assert runner.run(statuses()) <= {401, 503}
        until(lambda: runner.run(statuses()) == {401}, 20)
        for one in connections:
            one.close()


def test_without_redis_nothing_is_taken_and_it_may_be_told_again(site: Site) -> None:
    name = site.provider.begin_session()
    token = site.provider.access_token(name)
    assert site.nodes[0].call("GET", "/api/x", token=token).status == 200
    site.valkey.freeze()
    try:
        refused = site.told(name)
        assert (refused.status, refused.json["reason"]) == (503, "store_unavailable")
        assert refused.get("retry-after") is not None
    finally:
        site.valkey.thaw()
    until(lambda: site.told(name).status == 200, 20)
    until(lambda: site.nodes[1].call("GET", "/api/x", token=token).status == 401, 20)
