"""A wall clock that jumps by an hour under a running gateway: nothing revoked comes back to life."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests.contract.answers import Answer
from tests.contract.running import Running, started
from tests.e2e.processes import until, workers

pytestmark = pytest.mark.slow

HOUR_S = 3600


def faked() -> str:
    """The library that tells a program another time, as `faketime` loads it."""
    if shutil.which("faketime") is None:
        pytest.skip("needs faketime: apt-get install faketime")
    asked = ["faketime", "-f", "+0", "sh", "-c", "echo $LD_PRELOAD"]
    return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Its wall clock is what `jump` makes it; the clocks that never jump are the machine's."""
    folder = tmp_path_factory.mktemp("clock") / "g"
    note = folder.parent / "offset"
    note.write_text("+0")
    settings = {
        "LD_PRELOAD": faked(),
        "FAKETIME_TIMESTAMP_FILE": str(note),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    with started(folder, "--workers", "2", **settings) as running:
        until(lambda: len(workers(running)) == 2, 20)
        yield running


def jump(running: Running, seconds: int) -> None:
    """To the machine's time and so many seconds, in one write."""
    fresh = running.folder.parent / "offset.new"
    fresh.write_text(f"{seconds:+d}")
    os.replace(fresh, running.folder.parent / "offset")


@pytest.fixture(autouse=True)
def _in_step_again(one: Running) -> Iterator[None]:
    yield
    jump(one, 0)


def answers(running: Running, token: str) -> set[str | int | None]:
    """What either worker says to a token: the reason, or 200."""
    found = [running.call("GET", "/me", token=token) for _ in range(8)]
    return {answer.status if answer.status == 200 else answer.reason for answer in found}


def refresh(running: Running, session: dict[str, Any]) -> Answer:
    body = {"refresh_token": session["refresh_token"]}
    return running.call("POST", "/auth/refresh", json_body=body)


@pytest.mark.parametrize("jumped", [-HOUR_S, HOUR_S])
def test_a_session_that_was_signed_out_stays_so_on_every_worker_and_on_the_next(
    one: Running, jumped: int
) -> None:
    session = one.sign_in("out@example.com")
    token = session["access_token"]
    assert one.call("POST", "/auth/logout", token=token).status == 204
    jump(one, jumped)
    assert 200 not in answers(one, token)
    assert refresh(one, session).status == 401
    victim = workers(one)[0]
    os.kill(victim, signal.SIGKILL)
    until(lambda: len(workers(one)) == 2 and victim not in workers(one), 20)
    assert 200 not in answers(one, token)
    jump(one, 0)
    assert answers(one, token) == {"token_revoked"}
    assert refresh(one, session).status == 401


@pytest.mark.parametrize("ahead", [-HOUR_S, HOUR_S])
def test_a_session_that_began_and_ended_at_a_wrong_time_is_over_at_the_right_one(
    one: Running, ahead: int
) -> None:
    jump(one, ahead)
    session = one.sign_in("wrong@example.com")
    assert answers(one, session["access_token"]) == {200}
    assert one.call("POST", "/auth/logout", token=session["access_token"]).status == 204
    jump(one, 0)
    assert 200 not in answers(one, session["access_token"])
    assert refresh(one, session).status == 401


def test_who_was_shut_out_before_the_clock_was_set_back_stays_out(one: Running) -> None:
    session = one.sign_in("shut@example.com")
    assert one.confirmed("users", "disable", "shut@example.com").returncode == 0
    jump(one, -HOUR_S)
    assert one.confirmed("users", "enable", "shut@example.com").returncode == 0
    assert 200 not in answers(one, session["access_token"])
    assert refresh(one, session).status == 401
    jump(one, 0)
    assert 200 not in answers(one, session["access_token"])
    assert answers(one, one.sign_in("shut@example.com")["access_token"]) == {200}
