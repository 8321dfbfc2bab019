"""A worker can be asked for a refusal, and whoever asks wrongly is sent nothing."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from gateway.telemetry.refusal_socket import SUFFIX, RefusalSocket, ask_workers
from gateway.telemetry.socket_folder import SocketFolder

KNOWN = {"access": {"http.request.id": "r1"}, "decision": None}


TOLD = {**KNOWN, "later": 0}


@asynccontextmanager
async def worker(folder: Path) -> AsyncIterator[RefusalSocket]:
    one = RefusalSocket(folder, lambda wanted: KNOWN if wanted == "r1" else None)
    await one.start()
    try:
        yield one
    finally:
        await one.stop()


async def test_a_worker_tells_of_the_refusal_that_it_knows(tmp_path: Path) -> None:
    async with worker(tmp_path / "w"):
        assert await asyncio.to_thread(ask_workers, tmp_path / "w", "r1") == (1, TOLD)
        assert await asyncio.to_thread(ask_workers, tmp_path / "w", "r2") == (1, None)
    assert ask_workers(tmp_path / "w", "r1") == (0, None)


async def test_of_several_that_bear_an_id_the_first_is_told(tmp_path: Path) -> None:
    """A worker is named by its process, and here are two names of one."""
    folder, told = tmp_path / "w", []
    for second in ("02", "01", "03"):
        access = {"http.request.id": "r1", "@timestamp": f"2027-01-15T08:00:{second}+00:00"}
        told.append({"access": access, "decision": None, "later": 1})
    workers = [RefusalSocket(folder, lambda _, one=one: one) for one in told]  # type: ignore[misc]
    for number, one in enumerate(workers):
        one._own = f"{number}{SUFFIX}"
        await one.start()
    answered, found = await asyncio.to_thread(ask_workers, folder, "r1")
    for one in workers:
        await one.stop()
    assert (answered, found) == (3, {**told[1], "later": 5})


async def test_a_folder_with_a_long_path_does_as_well(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 120)
    async with worker(folder):
        assert await asyncio.to_thread(ask_workers, folder, "r1") == (1, TOLD)


def test_where_no_gateway_runs_nobody_answers(tmp_path: Path) -> None:
    assert ask_workers(tmp_path / "nothing", "r1") == (0, None)
    folder = SocketFolder(tmp_path / "w")
    folder.listen(f"4711{SUFFIX}").close()
    assert ask_workers(tmp_path / "w", "r1") == (0, None)
    assert folder.names(SUFFIX) == [], "what a worker that was killed has left is removed"
    folder.close()


async def test_a_question_that_is_none_is_answered_with_nothing(tmp_path: Path) -> None:
    async with worker(tmp_path / "w"):
        path = next((tmp_path / "w").glob(f"*{SUFFIX}"))
        assert path.stat().st_mode & 0o777 == 0o600

        def ask(data: bytes) -> bytes:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asked:
                asked.settimeout(5)
                asked.connect(str(path))
                asked.sendall(data)
                asked.shutdown(socket.SHUT_WR)
                try:
                    return asked.recv(10)
                except ConnectionResetError:
                    return b""

        for data in (b"", b"\xff\n", b"x" * 5_000):
            assert await asyncio.to_thread(ask, data) == b""
