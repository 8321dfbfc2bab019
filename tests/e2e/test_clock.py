"""A wall clock that jumps by an hour under a running gateway: nothing revoked comes back to life."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from tests.contract.answers import Answer
from tests.contract.running import Running, started
from tests.e2e.processes import until, workers
from tests.turned_clock import TurnedClock

pytestmark = pytest.mark.slow

HOUR_S = 3600


@pytest.fixture(scope="module")
def clock(tmp_path_factory: pytest.TempPathFactory) -> TurnedClock:
    return TurnedClock(tmp_path_factory.mktemp("clock"))


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory, clock: TurnedClock) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("turned") / "g"
    with started(folder, "--workers", "2", **clock.environment) as running:
        until(lambda: len(workers(running)) == 2, 20)
        yield running


@pytest.fixture(autouse=True)
def _in_step_again(clock: TurnedClock) -> Iterator[None]:
    yield
    clock.turn(0)


def answers(running: Running, token: str) -> set[str | int | None]:
    """What either worker says to a token: the reason, or 200."""
    found = [running.call("GET", "/me", token=token) for _ in range(8)]
    return {answer.status if answer.status == 200 else answer.reason for answer in found}


def refresh(running: Running, session: dict[str, Any]) -> Answer:
    body = {"refresh_token": session["refresh_token"]}
    return running.call("POST", "/auth/refresh", json_body=body)


@pytest.mark.parametrize("jumped", [-HOUR_S, HOUR_S])
def test_a_session_that_was_signed_out_stays_so_on_every_worker_and_on_the_next(
    one: Running, clock: TurnedClock, jumped: int
) -> None:
    session = one.sign_in("out@example.com")
    token = session["access_token"]
    assert one.call("POST", "/auth/logout", token=token).status == 204
    clock.turn(jumped)
    assert 200 not in answers(one, token)
    assert refresh(one, session).status == 401
    victim = workers(one)[0]
    os.kill(victim, signal.SIGKILL)
    until(lambda: len(workers(one)) == 2 and victim not in workers(one), 20)
    assert 200 not in answers(one, token)
    clock.turn(0)
    assert answers(one, token) == {"token_revoked"}
    assert refresh(one, session).status == 401


@pytest.mark.parametrize("ahead", [-HOUR_S, HOUR_S])
def test_a_session_that_began_and_ended_at_a_wrong_time_is_over_at_the_right_one(
    one: Running, clock: TurnedClock, ahead: int
) -> None:
    clock.turn(ahead)
    session = one.sign_in("wrong@example.com")
    assert answers(one, session["access_token"]) == {200}
    assert one.call("POST", "/auth/logout", token=session["access_token"]).status == 204
    clock.turn(0)
    assert 200 not in answers(one, session["access_token"])
    assert refresh(one, session).status == 401


def test_who_was_shut_out_before_the_clock_was_set_back_stays_out(
    one: Running, clock: TurnedClock
) -> None:
    session = one.sign_in("shut@example.com")
    assert one.confirmed("users", "disable", "shut@example.com").returncode == 0
    clock.turn(-HOUR_S)
    assert one.confirmed("users", "enable", "shut@example.com").returncode == 0
    assert 200 not in answers(one, session["access_token"])
    assert refresh(one, session).status == 401
    clock.turn(0)
    assert 200 not in answers(one, session["access_token"])
    assert answers(one, one.sign_in("shut@example.com")["access_token"]) == {200}
