"""Answers as they are given, for who looks at them: from all workers, bounded, and free otherwise."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest

from gateway.access.authorizer import Decision
from gateway.model import Call, Reason
from gateway.telemetry.access_log import MAX_WATCHED, AccessLog, AccessLogOptions
from gateway.telemetry.access_record import AnsweredRequest
from gateway.telemetry.live_answers import QUEUE_MAX, RECENT, VIEWERS_MAX, LiveAnswers
from gateway.telemetry.live_following import LiveBatch, follow_workers
from tests.databases import Hands


class Worker:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.wanted: list[bool] = []
        self.log = AccessLog(AccessLogOptions(sample=None), Hands(), lambda: "v1")
        self.live = LiveAnswers(folder, self.log, Hands(), lambda: "v1", self.wanted.append)

    async def refuse(self, *ids: str) -> None:
        for one in ids:
            request = AnsweredRequest(one, 400, "127.0.0.1", "GET", "a.example", "/x")
            self.log.refused(Reason.AMBIGUOUS_PATH, "r", request)
        await self.log.flush()

    def allow(self, one: str) -> None:
        call = Call(
            "GET",
            "a.example",
            "/y",
            ("y",),
            "secret=1",
            headers=(),
            client_ip="127.0.0.1",
            scheme="http",
        )
        self.live.decided(call, Decision(True, "route_public"), 200, one, 0.001)

    async def watched(self) -> None:
        while not self.live.viewers:
            await asyncio.sleep(0.005)


@pytest.fixture
async def worker() -> AsyncIterator[Worker]:
    with tempfile.TemporaryDirectory() as folder:
        opened = Worker(Path(folder))
        await opened.live.start()
        yield opened
        await opened.live.stop()


async def ids(worker: Worker, count: int, *, allowed: bool = False) -> list[str]:
    found: list[str] = []
    async with (
        asyncio.timeout(10),
        aclosing(follow_workers(worker.folder, allowed=allowed)) as told,
    ):
        async for batch in told:
            found += [answer["access"]["http.request.id"] for answer in batch.answers]
            if len(found) >= count:
                return found
    return found


async def test_the_last_refusals_come_first_and_then_what_happens(worker: Worker) -> None:
    await worker.refuse("a", "b")
    seeing = asyncio.create_task(ids(worker, 3))
    await worker.watched()
    await worker.refuse("c")
    assert await seeing == ["a", "b", "c"]


async def test_what_was_allowed_comes_to_who_wants_it(worker: Worker) -> None:
    seeing = asyncio.create_task(ids(worker, 2, allowed=True))
    await worker.watched()
    assert worker.wanted == [True]
    worker.allow("good")
    await worker.refuse("bad")
    assert sorted(await seeing) == ["bad", "good"]


async def test_nobody_looking_asks_nothing_of_the_worker(worker: Worker) -> None:
    assert not is_watched(worker)
    seeing = asyncio.create_task(ids(worker, 1, allowed=True))
    await worker.watched()
    assert is_watched(worker)
    await worker.refuse("a")
    await seeing
    while worker.live.viewers:
        await asyncio.sleep(0.005)
    assert not is_watched(worker)
    assert worker.wanted == [True, False]


def is_watched(worker: Worker) -> bool:
    return worker.log.watcher is not None


async def test_no_more_of_a_flood_is_shown_than_a_page_takes(worker: Worker) -> None:
    async with asyncio.timeout(10), aclosing(follow_workers(worker.folder, allowed=False)) as told:
        await anext(told)
        await worker.watched()
        await worker.refuse(*(f"r{n}" for n in range(MAX_WATCHED + 50)))
        batch = LiveBatch()
        while not batch.answers:
            batch = await anext(told)
    assert (len(batch.answers), batch.dropped) == (MAX_WATCHED, 50)


async def test_what_a_policy_read_is_shown_to_nobody_who_looks(worker: Worker) -> None:
    """It may be a secret; and fifty long ones were more than a line may hold, so that a stranger
    who sent them kept everything else from being seen."""
    async with asyncio.timeout(10), aclosing(follow_workers(worker.folder, allowed=False)) as told:
        await anext(told)
        await worker.watched()
        assert worker.log.watcher is not None
        read = {"headers": {"values": {"x-key": "hidden" * 20_000}}}
        for _ in range(50):
            worker.log.watcher([{"access": {"http.request.id": "a"}, "decision": read}], 0)
            batch = LiveBatch()
            while not batch.answers:
                batch = await anext(told)
            assert "hidden" not in json.dumps(batch.answers)


async def test_who_reads_slowly_loses_answers_and_is_told_how_many(worker: Worker) -> None:
    path = next(worker.folder.glob("*.live"))
    reader, writer = await asyncio.open_unix_connection(str(path), limit=1 << 24)
    writer.write(b"refusals\n")
    await worker.watched()
    many = 4 * QUEUE_MAX
    for n in range(many):  # nothing of it is read meanwhile
        worker.log.watcher and worker.log.watcher([{"access": {"n": n, "x": "y" * 20_000}}], 0)
    await asyncio.sleep(0)
    worker.log.watcher and worker.log.watcher([], 0)
    seen = dropped = 0
    async with asyncio.timeout(10):
        while seen + dropped < many:
            told = json.loads(await reader.readline())
            seen += len(told.get("answers", []))
            dropped += told.get("dropped", 0)
            if not told.get("answers"):
                worker.log.watcher and worker.log.watcher([], 0)
    assert dropped > 0
    assert seen + dropped == many
    writer.close()


async def test_there_are_so_many_viewers_and_no_more(worker: Worker) -> None:
    path = str(next(worker.folder.glob("*.live")))
    held = []
    for _ in range(VIEWERS_MAX):
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b"refusals\n")
        await reader.readline()
        held.append(writer)
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(b"refusals\n")
    assert json.loads(await reader.readline()) == {"busy": True}
    for one in (*held, writer):
        one.close()


async def test_a_line_shows_no_query(worker: Worker) -> None:
    path = str(next(worker.folder.glob("*.live")))
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(b"all\n")
    await worker.watched()
    worker.allow("good")
    line = b""
    while b"good" not in line:
        line = await reader.readline()
    assert b"secret" not in line
    writer.close()


async def test_what_a_worker_that_was_killed_left_is_removed(worker: Worker) -> None:
    (worker.folder / "1.live").touch()
    await worker.refuse("a")
    assert await ids(worker, 1) == ["a"]


async def test_as_many_of_the_last_are_shown_as_a_page_takes(worker: Worker) -> None:
    await worker.refuse(*(f"r{n}" for n in range(RECENT + 10)))
    assert len(await ids(worker, RECENT)) == RECENT
