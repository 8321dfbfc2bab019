"""Whom a breaker keeps away: what one client brings about is not what a target does to all."""

from __future__ import annotations

from gateway.access.definitions import Breaker, Health, Upstream
from gateway.edge.upstream.circuit_breaker import (
    MOST_NEIGHBOURHOODS,
    MOST_TRIALS,
    TRIALS_S,
    WITNESSES,
    CircuitBreaker,
)
from gateway.edge.upstream.outcome import Outcome
from gateway.edge.upstream.target_health import TargetHealth

ME = "192.0.2.1"
NEIGHBOUR = "192.0.2.200"
OTHER = "198.51.100.7"


def breaking(failures: int, window_s: float = 10.0, open_s: float = 15.0) -> CircuitBreaker:
    return CircuitBreaker(Breaker(failures, window_s, open_s), "http://x")


def stranger(number: int) -> str:
    """An address of a neighbourhood of its own."""
    return f"10.{number // 256}.{number % 256}.1"


def guarded(failures: int) -> TargetHealth:
    return TargetHealth(Upstream("u", (), breaker=Breaker(failures, 10.0, 15.0)), "http://x")


def hung_up(breaker: CircuitBreaker, client_ip: str, now: float) -> None:
    breaker.record_failure(client_ip, now, by_nobody=False)


def refused(breaker: CircuitBreaker, client_ip: str, now: float) -> None:
    breaker.record_failure(client_ip, now, by_nobody=True)


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


def test_a_burst_that_got_no_connection_in_time_opens_nothing_to_others() -> None:
    """It filled the queue of new connections itself."""
    standing = guarded(3)
    for _ in range(100):
        standing.record_end(Outcome.NOT_LET_IN, ME, 100.0)
    assert not standing.admits(ME, 100.0)
    assert standing.admits(OTHER, 100.0)
    standing.record_answer(OTHER, 101.0)
    for _ in range(100):
        standing.record_end(Outcome.NOT_LET_IN, ME, 101.0)
    assert not standing.is_open(101.0)


def test_a_target_that_lets_nobody_in_is_soon_left_alone_by_everybody() -> None:
    standing = guarded(3)
    for number in range(WITNESSES):
        for _ in range(3):
            standing.record_end(Outcome.NOT_LET_IN, stranger(number), 100.0)
    assert standing.admits(ME, 100.0)
    standing.record_dispatch(ME, 100.0)
    assert not standing.admits(NEIGHBOUR, 100.0)
    standing.record_end(Outcome.NOT_LET_IN, ME, 101.0)
    assert not standing.admits(ME, 115.9)


def test_only_so_many_neighbourhoods_are_remembered() -> None:
    """The first of them are forgotten, and so those that were failed are more."""
    breaker = breaking(MOST_NEIGHBOURHOODS // 2 + 1)
    for number in range(MOST_NEIGHBOURHOODS + 76):
        breaker.record_answer(stranger(number), 100.0)
    for number in range(MOST_NEIGHBOURHOODS // 2 + 1):
        hung_up(breaker, stranger(MOST_NEIGHBOURHOODS + 75 - number), 101.0)
    assert breaker.is_open(101.0)


# --- while it is open ---


def test_a_stranger_who_is_kept_away_makes_nobody_elses_failures_count_more() -> None:
    breaker = breaking(3)
    for _ in range(3):
        hung_up(breaker, ME, 100.0)
    for now in (101.0, 102.0):
        hung_up(breaker, OTHER, now)
        assert breaker.admits(OTHER, now)
    hung_up(breaker, OTHER, 103.0)
    assert not breaker.admits(OTHER, 103.0)


def test_a_refused_connection_counts_as_ever_while_a_stranger_is_kept_away() -> None:
    breaker = breaking(3)
    for _ in range(3):
        hung_up(breaker, ME, 100.0)
    for now in (101.0, 102.0):
        refused(breaker, OTHER, now)
        assert breaker.admits(OTHER, now)
        assert breaker.admits(stranger(1), now)
    refused(breaker, stranger(1), 103.0)
    assert not breaker.admits(stranger(2), 117.9)
    assert breaker.admits(stranger(2), 118.0)


def test_a_stranger_who_is_kept_away_waits_no_longer_for_what_others_meet() -> None:
    breaker = breaking(3)
    for _ in range(3):
        hung_up(breaker, ME, 100.0)
    for _ in range(3):
        hung_up(breaker, OTHER, 105.0)
    assert breaker.admits(ME, 115.0)
    assert not breaker.admits(OTHER, 115.0)


def test_a_stranger_who_is_kept_away_alone_waits_again_after_one_failed_trial() -> None:
    breaker = breaking(3)
    for _ in range(3):
        hung_up(breaker, ME, 100.0)
    breaker.record_dispatch(ME, 115.0)
    hung_up(breaker, ME, 116.0)
    assert not breaker.admits(ME, 130.9)
    assert breaker.admits(ME, 131.0)


def test_whoever_was_answered_goes_on_whatever_others_meet() -> None:
    """Four who are hung up on outvote an office whose pages make eight calls at once."""
    breaker = breaking(WITNESSES)
    breaker.record_answer(OTHER, 99.0)
    for number in range(WITNESSES):
        hung_up(breaker, stranger(number), 100.0)
    assert breaker.is_open(100.0)
    for _ in range(20):
        assert breaker.admits(OTHER, 109.0)
        breaker.record_dispatch(OTHER, 109.0)
    assert breaker.admits(ME, 109.0)
    breaker.record_dispatch(ME, 109.0)
    assert not breaker.admits(ME, 109.0)


def test_whoever_was_answered_waits_once_they_are_failed_themselves() -> None:
    breaker = breaking(WITNESSES)
    breaker.record_answer(OTHER, 99.0)
    for number in range(WITNESSES):
        hung_up(breaker, stranger(number), 100.0)
    hung_up(breaker, OTHER, 101.0)
    assert not breaker.admits(OTHER, 115.9)
    assert breaker.admits(OTHER, 116.0)


def test_an_answer_that_is_older_than_the_window_lets_one_call_try() -> None:
    breaker = breaking(WITNESSES)
    breaker.record_answer(OTHER, 99.0)
    for number in range(WITNESSES):
        hung_up(breaker, stranger(number), 100.0)
    breaker.record_dispatch(OTHER, 109.1)
    assert not breaker.admits(OTHER, 109.1)


def test_an_answer_from_before_everybody_rested_lets_one_call_try() -> None:
    breaker = breaking(3, open_s=2.0)
    breaker.record_answer(OTHER, 100.0)
    for _ in range(3):
        refused(breaker, ME, 101.0)
    assert breaker.admits(OTHER, 103.0)
    breaker.record_dispatch(OTHER, 103.0)
    assert not breaker.admits(OTHER, 103.0)


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


def test_a_trial_that_is_refused_begins_another_rest_for_everybody() -> None:
    breaker = breaking(3)
    for _ in range(3):
        refused(breaker, ME, 85.0)
    assert breaker.admits(OTHER, 100.0)
    breaker.record_dispatch(OTHER, 100.0)
    refused(breaker, OTHER, 101.0)
    assert not breaker.admits(ME, 115.9)
    assert breaker.admits(ME, 116.0)


def test_trials_that_are_refused_after_hang_ups_begin_one_after_so_many() -> None:
    breaker = opened_by_many(100.0)
    for number in range(100, 100 + WITNESSES):
        assert breaker.admits(OTHER, 101.9)
        breaker.record_dispatch(stranger(number), 101.0)
        refused(breaker, stranger(number), 102.0)
    assert not breaker.admits(ME, 116.9)
    assert breaker.admits(ME, 117.0)


def test_what_was_refused_before_an_answer_begins_no_rest_after_it() -> None:
    breaker = breaking(3)
    for _ in range(3):
        refused(breaker, ME, 100.0)
    breaker.record_answer(OTHER, 101.0)
    refused(breaker, ME, 102.0)
    assert breaker.admits(ME, 102.0)


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


def probed(fall: int) -> TargetHealth:
    health = Health("/", every_s=5.0, fall=fall, rise=2, timeout_s=1.0)
    return TargetHealth(Upstream("u", (), health=health), "http://x")


def test_calls_take_a_target_out_only_where_nothing_was_sent() -> None:
    standing = probed(fall=3)
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


def test_a_burst_that_got_no_connection_in_time_takes_no_target_out() -> None:
    standing = probed(fall=3)
    for _ in range(100):
        standing.record_end(Outcome.NOT_LET_IN, ME, 100.0)
    assert standing.healthy


def test_a_target_that_lets_nobody_in_is_taken_out() -> None:
    standing = probed(fall=1)
    for number in range(WITNESSES):
        assert standing.healthy
        standing.record_end(Outcome.NOT_LET_IN, stranger(number), 100.0)
    assert not standing.healthy


def test_a_target_that_is_back_is_judged_anew() -> None:
    standing = probed(fall=1)
    for number in range(WITNESSES):
        standing.record_end(Outcome.NOT_LET_IN, stranger(number), 100.0)
    for _ in range(2):
        standing.record_probe(True)
    assert standing.healthy
    standing.record_end(Outcome.NOT_LET_IN, ME, 110.0)
    assert standing.healthy


def test_an_answer_between_shows_that_a_target_lets_callers_in() -> None:
    standing = probed(fall=3)
    for number in range(WITNESSES - 1):
        standing.record_end(Outcome.NOT_LET_IN, stranger(number), 100.0)
    standing.record_answer(OTHER, 100.0)
    standing.record_end(Outcome.NOT_LET_IN, ME, 100.0)
    assert standing.healthy


def test_as_many_neighbourhoods_are_asked_for_as_a_target_may_fall() -> None:
    standing = probed(fall=WITNESSES + 2)
    for number in range(WITNESSES + 1):
        standing.record_end(Outcome.NOT_LET_IN, stranger(number), 100.0)
    assert standing.healthy
    standing.record_end(Outcome.NOT_LET_IN, ME, 100.0)
    assert not standing.healthy
