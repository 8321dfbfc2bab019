"""One worker answers for all of them, whatever the others are up to."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.telemetry.worker_status import WorkerStatusSocket


class Worker(WorkerStatusSocket):
    """A worker of another process id, in this process."""

    def __init__(self, folder: Path, number: int) -> None:
        super().__init__(folder, lambda: {"worker": number})
        self._own = f"{number}.sock"


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[tuple[WorkerStatusSocket, WorkerStatusSocket]]:
    one, other = Worker(tmp_path / "w", 1), Worker(tmp_path / "w", 2)
    await one.start()
    await other.start()
    yield one, other
    await one.stop()
    await other.stop()


async def test_every_worker_tells_the_one_that_is_asked_first(
    pair: tuple[WorkerStatusSocket, WorkerStatusSocket],
) -> None:
    one, other = pair
    assert await one.gather() == [{"worker": 1}, {"worker": 2}]
    assert await other.gather() == [{"worker": 2}, {"worker": 1}]


async def test_the_socket_is_for_this_user_alone(
    pair: tuple[WorkerStatusSocket, WorkerStatusSocket], tmp_path: Path
) -> None:
    assert stat.S_IMODE((tmp_path / "w" / "1.sock").stat().st_mode) == 0o600


async def test_the_socket_of_a_dead_worker_is_left_out_and_taken_away(
    pair: tuple[WorkerStatusSocket, WorkerStatusSocket], tmp_path: Path
) -> None:
    dead = tmp_path / "w" / "3.sock"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(dead))
    listener.close()
    assert len(await pair[0].gather()) == 2
    assert not dead.exists()


async def test_a_worker_that_hangs_is_left_out_within_a_second(
    pair: tuple[WorkerStatusSocket, WorkerStatusSocket], tmp_path: Path
) -> None:
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "w" / "3.sock"))
        silent.listen()
        async with asyncio.timeout(2):
            assert len(await pair[0].gather()) == 2


async def test_a_worker_that_garbles_is_left_out(
    pair: tuple[WorkerStatusSocket, WorkerStatusSocket], tmp_path: Path
) -> None:
    async def garble(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'{"worker": ')
        writer.close()

    server = await asyncio.start_unix_server(garble, tmp_path / "w" / "3.sock")
    async with server:
        assert len(await pair[0].gather()) == 2


async def test_a_folder_whose_name_is_too_long_for_a_socket_serves_all_the_same(
    tmp_path: Path,
) -> None:
    folder = tmp_path / ("long" * 40)
    one, other = Worker(folder, 1), Worker(folder, 2)
    await one.start()
    await other.start()
    assert await one.gather() == [{"worker": 1}, {"worker": 2}]
    await one.stop()
    await other.stop()


async def test_a_worker_that_stops_takes_its_socket_away(tmp_path: Path) -> None:
    status_socket = WorkerStatusSocket(tmp_path, dict)
    await status_socket.start()
    assert os.listdir(tmp_path) == [f"{os.getpid()}.sock"]
    await status_socket.stop()
    assert os.listdir(tmp_path) == []
