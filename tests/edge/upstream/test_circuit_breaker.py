"""Whom a breaker keeps away: what one client brings about is not what a target does to all."""

from __future__ import annotations

from gateway.access.definitions import Breaker, Health, Upstream
from gateway.edge.upstream.circuit_breaker import (
    MOST_NEIGHBOURHOODS,
    MOST_TRIALS,
    TRIALS_S,
    WITNESSES,
    CircuitBreaker,
    Outcome,
)
from gateway.edge.upstream.target_health import TargetHealth

ME = "192.0.2.1"
NEIGHBOUR = "192.0.2.200"
OTHER = "198.51.100.7"


def breaking(failures: int, window_s: float = 10.0, open_s: float = 15.0) -> CircuitBreaker:
    return CircuitBreaker(Breaker(failures, window_s, open_s), "http://x")


def stranger(number: int) -> str:
    """An address of a neighbourhood of its own."""
    return f"10.{number // 256}.{number % 256}.1"


def hung_up(breaker: CircuitBreaker, client_ip: str, now: float) -> None:
    breaker.record_failure(client_ip, now, sent=True)


def refused(breaker: CircuitBreaker, client_ip: str, now: float) -> None:
    breaker.record_failure(client_ip, now, sent=False)


def opened_by_many(now: float) -> CircuitBreaker:
    """So many were failed, and nobody answered, that it is no doing of theirs."""
    breaker = breaking(WITNESSES)
    for number in range(WITNESSES):
        hung_up(breaker, stranger(number), now)
    assert breaker.is_open(now)
    return breaker


# --- when it opens ---


def test_a_breaker_opens_after_so_many_failures_in_its_window() -> None:
    breaker = breaking(3)
    for now in (100.0, 104.0):
        hung_up(breaker, ME, now)
    assert breaker.admits(ME, 104.0)
    hung_up(breaker, ME, 109.9)
    assert not breaker.admits(ME, 109.9)
    assert not breaker.admits(NEIGHBOUR, 109.9)


def test_failures_spread_over_more_than_the_window_open_nothing() -> None:
    breaker = breaking(3)
    for now in (100.0, 106.0, 112.0, 118.0, 124.0):
        hung_up(breaker, ME, now)
        assert breaker.admits(ME, now)


def test_earlier_answers_to_those_that_are_failed_now_keep_it_closed_to_nobody() -> None:
    breaker = breaking(3)
    breaker.record_answer(ME, 100.0)
    for _ in range(3):
        hung_up(breaker, ME, 101.0)
    assert not breaker.admits(ME, 101.0)


def test_whoever_is_failed_is_outvoted_by_one_who_is_answered() -> None:
    """A backend hangs up on whoever asks for what it does not like."""
    breaker = breaking(3)
    breaker.record_answer(OTHER, 100.0)
    for _ in range(100):
        hung_up(breaker, ME, 101.0)
    assert not breaker.is_open(101.0)
    assert breaker.admits(ME, 101.0)
    assert breaker.admits(OTHER, 101.0)


def test_the_majority_decides_by_the_latest_outcome_of_each() -> None:
    breaker = breaking(3)
    for number in range(7):
        breaker.record_answer(stranger(number), 100.0)
    for number in range(3):
        hung_up(breaker, stranger(number), 101.0)
    assert not breaker.is_open(101.0)
    hung_up(breaker, stranger(3), 101.0)
    assert breaker.is_open(101.0)


def test_who_is_answered_again_counts_as_answered() -> None:
    breaker = breaking(3)
    for number in range(2):
        hung_up(breaker, stranger(number), 100.0)
        breaker.record_answer(stranger(number), 100.5)
    hung_up(breaker, ME, 101.0)
    assert not breaker.is_open(101.0)


def test_answers_that_are_older_than_the_window_speak_for_nothing() -> None:
    breaker = breaking(3)
    breaker.record_answer(OTHER, 100.0)
    for _ in range(3):
        hung_up(breaker, ME, 110.1)
    assert breaker.is_open(110.1)


def test_what_fails_before_anything_was_sent_opens_it_to_everybody() -> None:
    breaker = breaking(3)
    breaker.record_answer(OTHER, 100.0)
    for _ in range(3):
        refused(breaker, ME, 101.0)
    assert not breaker.admits(ME, 115.9)
    assert not breaker.admits(OTHER, 115.9)
    assert breaker.admits(OTHER, 116.0)


def test_only_so_many_neighbourhoods_are_remembered() -> None:
    """The first of them are forgotten, and so those that were failed are more."""
    breaker = breaking(MOST_NEIGHBOURHOODS // 2 + 1)
    for number in range(MOST_NEIGHBOURHOODS + 76):
        breaker.record_answer(stranger(number), 100.0)
    for number in range(MOST_NEIGHBOURHOODS // 2 + 1):
        hung_up(breaker, stranger(MOST_NEIGHBOURHOODS + 75 - number), 101.0)
    assert breaker.is_open(101.0)


# --- while it is open ---


def test_while_few_were_failed_everybody_else_goes_on_as_ever() -> None:
    breaker = breaking(3)
    for _ in range(3):
        hung_up(breaker, ME, 100.0)
    assert not breaker.admits(ME, 100.0)
    for _ in range(20):
        assert breaker.admits(OTHER, 100.0)
        breaker.record_dispatch(OTHER, 100.0)


def test_one_answer_lets_everybody_in_again() -> None:
    breaker = opened_by_many(100.0)
    breaker.record_dispatch(OTHER, 101.0)
    breaker.record_answer(OTHER, 101.5)
    assert all(breaker.admits(who, 101.5) for who in (ME, OTHER, stranger(0)))


def test_who_was_not_failed_tries_once_before_the_rest_is_over() -> None:
    breaker = opened_by_many(100.0)
    assert breaker.admits(ME, 101.0)
    breaker.record_dispatch(ME, 101.0)
    assert not breaker.admits(ME, 110.0)
    assert not breaker.admits(NEIGHBOUR, 110.0)
    hung_up(breaker, ME, 111.0)
    assert not breaker.admits(ME, 125.9)
    assert breaker.admits(ME, 126.0)


def test_a_call_that_is_told_of_twice_is_one_trial() -> None:
    breaker = opened_by_many(100.0)
    for number in range(100, 100 + MOST_TRIALS):
        assert breaker.admits(stranger(number), 101.0)
        breaker.record_dispatch(stranger(number), 101.0)
        breaker.record_dispatch(stranger(number), 101.0)


def test_trials_that_never_end_keep_nobody_away_for_long() -> None:
    """Whoever has many addresses, and drips a body from each, wins a moment."""
    breaker = opened_by_many(100.0)
    for number in range(100, 100 + MOST_TRIALS):
        breaker.record_dispatch(stranger(number), 101.0)
    assert not breaker.admits(ME, 101.0)
    assert breaker.admits(ME, 101.0 + TRIALS_S)


def test_who_was_failed_waits_for_a_rest_and_no_longer_for_that_of_others() -> None:
    breaker = opened_by_many(100.0)
    hung_up(breaker, ME, 110.0)
    assert not breaker.admits(stranger(0), 114.9)
    assert breaker.admits(stranger(0), 115.0)
    assert not breaker.admits(ME, 115.0)


def test_a_trial_that_finds_nobody_begins_a_rest_for_everybody() -> None:
    breaker = opened_by_many(100.0)
    breaker.record_dispatch(ME, 101.0)
    refused(breaker, ME, 102.0)
    assert not breaker.admits(OTHER, 116.9)
    assert breaker.admits(OTHER, 117.0)


def test_after_its_rest_one_call_of_each_tries_and_the_others_wait_for_what_it_meets() -> None:
    breaker = breaking(1)
    refused(breaker, ME, 100.0)
    assert not breaker.admits(ME, 114.9)
    assert breaker.admits(ME, 115.0)
    breaker.record_dispatch(ME, 115.0)
    assert not breaker.admits(NEIGHBOUR, 115.1)
    assert breaker.admits(OTHER, 115.1)
    breaker.record_dispatch(OTHER, 115.1)
    assert not breaker.admits(OTHER, 115.2)
    breaker.record_answer(ME, 116.0)
    assert breaker.admits(NEIGHBOUR, 116.0)


def test_who_leaves_makes_room_for_another_trial_once() -> None:
    breaker = breaking(1)
    hung_up(breaker, ME, 100.0)
    breaker.record_dispatch(ME, 115.0)
    breaker.record_unknown(ME, 116.0)
    assert breaker.admits(ME, 116.0)
    breaker.record_dispatch(ME, 116.0)
    breaker.record_unknown(ME, 117.0)
    assert not breaker.admits(ME, 130.9)
    assert breaker.admits(ME, 131.0)


def test_calls_that_end_for_nothing_shorten_no_rest_of_who_was_failed() -> None:
    breaker = breaking(1)
    hung_up(breaker, ME, 100.0)
    breaker.record_unknown(ME, 101.0)
    assert not breaker.admits(ME, 101.0)


# --- health ---


def test_calls_take_a_target_out_only_where_nothing_was_sent() -> None:
    health = Health("/", every_s=5.0, fall=3, rise=2, timeout_s=1.0)
    standing = TargetHealth(Upstream("u", (), health=health), "http://x")
    for _ in range(20):
        standing.record_end(Outcome.BROKEN, ME, 100.0)
    assert standing.healthy
    for _ in range(2):
        standing.record_end(Outcome.UNREACHED, ME, 100.0)
    standing.record_answer(OTHER, 100.0)
    for _ in range(2):
        standing.record_end(Outcome.UNREACHED, ME, 100.0)
    assert standing.healthy
    standing.record_end(Outcome.UNREACHED, ME, 100.0)
    assert not standing.healthy
