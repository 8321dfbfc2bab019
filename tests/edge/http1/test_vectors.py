"""What the tests of other parsers send, through the real listener and through the upstream's leg.

A file of `tests/corpus/others` is a list of vectors, their bytes as latin-1 text.  `theirs` is what
the other parser makes of them (messages, and the error that ends them); `here` is what comes of them
here.  Where that differs, `why` says so: a vector without it has to mean the same on both sides.
"""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.edge.server.listener import ListenerLimits
from tests.edge.rig import OK, Exchange, running

FOLDER = Path(__file__).parents[2] / "corpus" / "others"
REQUESTS = sorted(FOLDER.glob("*-requests.yaml"))
RESPONSES = sorted(FOLDER.glob("*-responses.yaml"))
AT_ONCE = 32

# What is not whole is ended soon: nobody is waited for.
LIMITS = ListenerLimits(
    head_s=1.0, keepalive_s=0.5, body_idle_s=1.0, linger_s=0.1, stall_s=2, sweep_s=0.02
)
Vector = dict[str, Any]

_STATUS = re.compile(rb"HTTP/1\.1 ([0-9]{3}) ")
_REFUSALS = {400, 405, 408, 414, 431}


ANY_METHOD = (
    "any method that is a token in capitals passes: RFC 9110 section 9.1 leaves their list open"
)


def in_origin_form(target: str) -> str:
    """A target as a server reads it: RFC 9112 section 3.2.2 asks it to take the absolute form."""
    path = re.sub(r"^https?://[^/?#]*", "", target)
    return path if path == target or path.startswith("/") else f"/{path}"


def vectors(path: Path) -> list[Vector]:
    found: list[Vector] = yaml.load(path.read_text("utf-8"), yaml.CSafeLoader)
    return found


async def requested(data: bytes) -> dict[str, Any]:
    """The statuses that come back, and the requests that reach the upstream."""
    arrived: list[dict[str, str]] = []

    async def script(exchange: Exchange) -> None:
        method, target, _ = exchange.received.line.decode("latin-1").split(" ")
        body = await exchange.body()
        arrived.append({"method": method, "target": target, "body": body.decode("latin-1")})
        exchange.send(OK)

    async with running(script, limits=LIMITS) as rig:
        answers = await rig.all(data)
    return {"answers": [int(status) for status in _STATUS.findall(answers)], "arrive": arrived}


async def responded(data: bytes) -> dict[str, Any]:
    """What a client gets of an upstream that answers so and closes."""

    async def script(exchange: Exchange) -> None:
        exchange.send(data)
        exchange.close()

    async with running(script, limits=LIMITS) as rig:
        client = await rig.client()
        await client.send(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n")
        try:
            answer = await client.answer()
            while answer.status < 200:
                answer = await client.answer()
        except (ConnectionError, asyncio.IncompleteReadError):
            return {"cut": True}
        if answer.values("content-type") == [b"application/problem+json"]:
            return {"refused": json.loads(answer.body)["reason"]}
        body = answer.body.decode("latin-1")
        return {"status": answer.status, "body": body}


async def differing(path: Path, through: Any) -> list[tuple[str, Any]]:
    """The vectors whose outcome is not what the file says, with what came instead."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(vector: Vector) -> tuple[str, Any] | None:
        async with gate:
            came = await through(vector["bytes"].encode("latin-1"))
        return None if came == vector["here"] else (vector["name"], came)

    outcomes = await asyncio.gather(*(one(vector) for vector in vectors(path)))
    return [outcome for outcome in outcomes if outcome is not None]


@pytest.mark.parametrize("path", REQUESTS, ids=lambda path: path.stem)
async def test_requests_of_others_are_read_or_refused_as_the_file_says(path: Path) -> None:
    assert await differing(path, requested) == []


@pytest.mark.parametrize("path", RESPONSES, ids=lambda path: path.stem)
async def test_responses_of_others_pass_or_are_refused_as_the_file_says(path: Path) -> None:
    assert await differing(path, responded) == []


@pytest.mark.parametrize("path", REQUESTS, ids=lambda path: path.stem)
def test_no_vector_becomes_another_request_or_a_second_one(path: Path) -> None:
    for vector in vectors(path):
        theirs, here = vector["theirs"]["messages"], vector["here"]
        name = vector["name"]
        if vector.get("why") == ANY_METHOD:
            assert len(here["arrive"]) == 1
            continue
        # What arrives is a beginning of what they read: nothing more, and nothing else.
        read = [message | {"target": in_origin_form(message["target"])} for message in theirs]
        assert here["arrive"] == read[: len(here["arrive"])], name
        refused = [status for status in here["answers"] if status != 200]
        assert set(refused) <= _REFUSALS, name
        # Nothing is served after a refusal.
        assert refused in ([], here["answers"][-1:]), name
        assert len(here["answers"]) - len(refused) <= len(here["arrive"]), name
        if len(here["arrive"]) < len(theirs):
            assert vector.get("why"), name


@pytest.mark.parametrize("path", RESPONSES, ids=lambda path: path.stem)
def test_no_response_means_another_one(path: Path) -> None:
    for vector in vectors(path):
        theirs, here = vector["theirs"], vector["here"]
        name = vector["name"]
        if "status" in here:
            (first, *_) = [m for m in theirs["messages"] if m["status"] >= 200]
            assert (here["status"], here["body"]) == (first["status"], first["body"]), name
        else:
            assert here in ({"cut": True}, {"refused": "upstream_malformed"}), name
            assert theirs["error"] or vector.get("why"), name


def test_there_are_vectors() -> None:
    assert len(REQUESTS) == len(RESPONSES) == 2
    assert sum(len(vectors(path)) for path in REQUESTS + RESPONSES) > 200
