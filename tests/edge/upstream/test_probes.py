"""What a health probe takes for a good answer."""

from __future__ import annotations

import pytest

from gateway.access.definitions import Health
from gateway.edge.upstream.connection import MAX_INTERIM
from gateway.edge.upstream.resolver import Endpoints, SystemResolver
from gateway.edge.upstream.target_health import probe
from tests.edge.rig import RawUpstream, answering, target

BOTH_LOOPS = True

HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload; as=style\r\n\r\n"
PROCESSING = b"HTTP/1.1 102 Processing\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
BUSY = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n"


async def probed(answer: bytes) -> bool:
    upstream = RawUpstream(answering(answer, close=True))
    await upstream.start()
    try:
        return await probe(
            target(upstream.port),
            Health("/healthz", every_s=60.0),
            b"x",
            None,
            Endpoints(SystemResolver()),
        )
    finally:
        await upstream.stop()


@pytest.mark.parametrize("before", [HINTS, PROCESSING + HINTS, HINTS * MAX_INTERIM])
async def test_an_answer_is_good_or_not_whatever_1xx_came_before_it(before: bytes) -> None:
    assert await probed(before + OK)
    assert not await probed(before + BUSY)


@pytest.mark.parametrize(
    "answer",
    [HINTS, SWITCHED, SWITCHED + OK, HINTS * (MAX_INTERIM + 1) + OK, HINTS + b"ok\r\n\r\n"],
)
async def test_what_is_never_followed_by_an_answer_is_not_good(answer: bytes) -> None:
    assert not await probed(answer)
