"""A configuration that is tried: by commands that know no secret, end in time, and leave nothing."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest

from gateway.edge.console.playground_page import ROWS_MAX, PlaygroundPage
from gateway.edge.console.trials import (
    OUTPUT_BYTES,
    WAITING_MAX,
    TooManyTrials,
    Trials,
)
from tests.edge.console.house import console_house

ONCE_BOUNDED = """\
import resource, time
while resource.getrlimit(resource.RLIMIT_AS)[0] == resource.RLIM_INFINITY:
    time.sleep(0.01)
"""
"""A command is bound once it runs: what it takes before, nobody holds against it."""


def trials(
    tmp_path: Path, script: str, time_s: float = 240.0, *, memory_limit: int | None = None
) -> Trials:
    (tmp_path / "routes.yaml").write_text("version: 1\n")
    (tmp_path / "data").mkdir(exist_ok=True)
    return Trials(
        tmp_path / "routes.yaml",
        tmp_path / "policies",
        tmp_path / "data",
        {"PUBLIC_URL": "https://gateway.example.com", "KEY_SECRET": "hidden"},
        command=(sys.executable, "-c", script),
        time_s=time_s,
        memory_limit=memory_limit,
    )


async def test_a_command_is_told_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GATEWAY_KEY_SECRET", "AWS_SECRET_ACCESS_KEY", "PGPASSWORD"):
        monkeypatch.setenv(name, "hidden")
    script = "import json, os; print(json.dumps({'notices': [dict(os.environ)]}))"
    told = (await trials(tmp_path, script).run({})).notices[0]
    assert "hidden" not in json.dumps(dict(told))
    assert told["GATEWAY_PUBLIC_URL"] == "https://gateway.example.com"


async def test_a_command_that_goes_on_is_ended(tmp_path: Path) -> None:
    script = "import os, time; open('pid', 'w').write(str(os.getpid())); time.sleep(600)"
    trial = await trials(tmp_path, script, time_s=1.0).run({})
    assert trial.failures == ("gateway validate took longer than 1 s: try it in the shell",)
    assert list((tmp_path / "data").iterdir()) == []


async def test_a_command_that_says_too_much_is_ended(tmp_path: Path) -> None:
    script = f"while True: print('x' * {OUTPUT_BYTES})"
    assert "more than is shown here" in (await trials(tmp_path, script).run({})).failures[0]


async def test_a_command_that_takes_too_much_memory_fails_by_itself(tmp_path: Path) -> None:
    script = f"{ONCE_BOUNDED}x = bytearray(6 << 30); print('{{}}')"
    assert "failed (exit" in (await trials(tmp_path, script).run({})).failures[0]


async def test_a_command_takes_half_of_what_a_container_has(tmp_path: Path) -> None:
    """Where a container has none left, the kernel ends the gateway in it too."""
    for taken, failed in ((100, False), (500, True)):
        script = f"{ONCE_BOUNDED}x = bytearray({taken} << 20); print('{{}}')"
        trial = await trials(tmp_path, script, memory_limit=768 << 20).run({})
        assert bool(trial.failures) == failed


async def test_of_all_workers_one_tries(tmp_path: Path) -> None:
    going_on = trials(tmp_path, "import time; open('begun', 'w'); time.sleep(600)")
    running = asyncio.create_task(going_on.run({}))
    while not list((tmp_path / "data").glob("*/new/begun")):
        await asyncio.sleep(0.01)
    another_worker = trials(tmp_path, "print('{}')")
    with pytest.raises(TooManyTrials):
        await another_worker.run({})
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert not (await another_worker.run({})).failures


async def test_few_wait_for_their_turn(tmp_path: Path) -> None:
    tried = trials(tmp_path, "import time; time.sleep(600)", time_s=1.0)
    running = [asyncio.create_task(tried.run({})) for _ in range(WAITING_MAX)]
    while tried._waiting < WAITING_MAX:
        await asyncio.sleep(0)
    with pytest.raises(TooManyTrials):
        await tried.run({})
    await asyncio.gather(*running)


async def test_who_leaves_ends_what_they_began(tmp_path: Path) -> None:
    tried = trials(tmp_path, "import time; time.sleep(600)")
    running = asyncio.create_task(tried.run({}))
    while not list((tmp_path / "data").iterdir()):
        await asyncio.sleep(0.01)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert list((tmp_path / "data").iterdir()) == []


async def test_what_a_killed_worker_left_goes(tmp_path: Path) -> None:
    tried = trials(tmp_path, "print('{}')")
    left = tmp_path / "data" / "trial-left"
    left.mkdir()
    os.utime(left, (0, 0))
    await tried.run({})
    assert not left.exists()


async def test_of_many_problems_a_page_shows_the_first(tmp_path: Path) -> None:
    """All of them took the worker a seventh of a second, in which it served nobody."""
    script = (
        "import json; print(json.dumps({'problems': [{'file': 'routes.yaml', 'line': n,"
        " 'column': 1, 'problem': 'is wrong'} for n in range(900)]}))"
    )
    async with console_house(*PlaygroundPage(trials(tmp_path, script)).pages()) as house:
        csrf = await house.sign_in()
        answer = await house.post("/admin/playground", {"csrf": csrf, "do": "try", "text": "a"})
    assert answer.text.count("is wrong") == ROWS_MAX
    assert f"The first {ROWS_MAX} of 900." in answer.text
