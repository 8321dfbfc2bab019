"""The judgements of a lease, one by one."""

from __future__ import annotations

from gateway.model import Change, ChangeKind, Reason
from gateway.revocation.lease import (
    Lease,
    LeaseMonitor,
    PendingConfirmation,
    expires_after_s,
    valid_for_s,
)
from gateway.stores.protocols import LeaseState, StreamView

SESSION = Change("c", ChangeKind.SESSION, "s", 0, Reason.TOKEN_REVOKED, 0)
KEYS = Change("k", ChangeKind.KEYS, "k", 0, Reason.TOKEN_REVOKED, 0)


def view(
    end: int,
    entries: dict[int, Change | None] | None = None,
    incarnation: str = "i",
    **leases: LeaseState,
) -> StreamView:
    return StreamView(incarnation, end, leases, list((entries or {}).items()))


class Hand:
    def __init__(self) -> None:
        self.at = 0.0

    def __call__(self) -> float:
        return self.at


def test_a_renewal_counts_only_when_it_reported_the_end_of_its_own_round_trip() -> None:
    lease = Lease("w", view(5))
    assert lease.confirms(5, view(5))
    lease.position = 6
    assert not lease.confirms(5, view(6))


def test_another_incarnation_is_not_followed_even_where_its_numbers_fit() -> None:
    lease = Lease("w", view(5))
    assert lease.follows(5, view(6, {6: SESSION}))
    assert not lease.follows(5, view(6, {6: SESSION}, incarnation="j"))
    assert not lease.follows(5, None)


def test_an_end_behind_what_the_renewal_reported_is_not_followed() -> None:
    assert not Lease("w", view(5)).follows(5, view(4))


def test_news_that_overtook_the_answer_to_a_renewal_do_not_cost_the_lease() -> None:
    lease = Lease("w", view(5))
    lease.position = 7
    assert lease.follows(5, view(5))
    assert lease.follows(5, view(6, {6: SESSION}))


def test_a_gap_or_an_entry_that_cannot_be_read_is_not_followed() -> None:
    lease = Lease("w", view(5))
    assert not lease.follows(5, view(8, {7: SESSION, 8: SESSION}))
    assert not lease.follows(5, view(7, {6: SESSION, 7: None}))
    assert lease.follows(5, view(7, {5: None, 6: SESSION, 7: SESSION}))


def test_only_what_is_new_is_news() -> None:
    assert Lease("w", view(5)).unapplied([(5, KEYS), (6, SESSION)]) == [(6, SESSION)]


def test_every_lease_of_the_appends_moment_is_waited_for_and_no_later_one() -> None:
    confirmation = PendingConfirmation(
        view(3, a=LeaseState(1, 2, 2), b=LeaseState(1, 3, 3)), [SESSION]
    )
    assert not confirmation.complete(view(3, a=LeaseState(2, 2, 2), b=LeaseState(1, 3, 3)))
    assert confirmation.complete(view(4, a=LeaseState(3, 3, 3), c=LeaseState(0, 0, 0)))


def test_a_lease_that_is_gone_or_still_loading_is_not_waited_for() -> None:
    confirmation = PendingConfirmation(
        view(3, a=LeaseState(1, 2, 2), b=LeaseState(1, -1, -1)), [SESSION]
    )
    assert confirmation.complete(view(3, b=LeaseState(2, -1, -1)))


def test_a_change_of_keys_waits_for_their_reading_at_home_too() -> None:
    confirmation = PendingConfirmation(view(3, own=LeaseState(1, 3, 2)), [SESSION, KEYS], ["own"])
    assert not confirmation.complete(view(3, own=LeaseState(2, 3, 2)))
    assert confirmation.complete(view(3, own=LeaseState(3, 3, 3)))


def test_another_change_does_not_wait_for_the_keys_or_for_itself() -> None:
    appended = view(3, own=LeaseState(1, 2, 2), other=LeaseState(1, 3, 1))
    assert PendingConfirmation(appended, [SESSION], ["own"]).complete(appended)


def test_an_announcement_is_given_up_with_its_incarnation() -> None:
    confirmation = PendingConfirmation(view(3), [SESSION])
    assert not confirmation.lost(view(9))
    assert confirmation.lost(view(9, incarnation="j"))
    assert confirmation.lost(view(2))


def test_a_silent_lease_is_over_only_after_its_holder_must_have_fenced_itself() -> None:
    hand = Hand()
    monitor = LeaseMonitor(hand, 5.0)
    held = view(3, a=LeaseState(7, 3, 3))
    assert monitor.observe(held) == []
    hand.at = valid_for_s(5.0)
    assert monitor.observe(held) == []
    hand.at = expires_after_s(5.0)
    assert monitor.observe(held) == [("a", 7)]


def test_a_renewed_lease_is_watched_anew() -> None:
    hand = Hand()
    monitor = LeaseMonitor(hand, 5.0)
    monitor.observe(view(3, a=LeaseState(7, 3, 3)))
    hand.at = 4.5
    monitor.observe(view(3, a=LeaseState(8, 3, 3)))
    hand.at = 9.0
    assert monitor.observe(view(3, a=LeaseState(8, 3, 3))) == []


def test_the_lease_of_a_process_that_is_gone_is_over_at_once() -> None:
    monitor = LeaseMonitor(Hand(), 5.0, lambda name: name == "dead")
    assert monitor.observe(view(3, dead=LeaseState(1, 3, 3), alive=LeaseState(1, 3, 3))) == [
        ("dead", 1)
    ]


def test_an_incarnation_outlasts_older_leases_once_it_was_watched_alone() -> None:
    hand = Hand()
    monitor = LeaseMonitor(hand, 5.0)
    monitor.observe(view(3))
    assert not monitor.outlasted("i")
    hand.at = expires_after_s(5.0)
    assert monitor.outlasted("i")
    assert not monitor.saw_change


def test_an_incarnation_that_comes_back_is_watched_anew() -> None:
    hand = Hand()
    monitor = LeaseMonitor(hand, 5.0)
    monitor.observe(view(3))
    hand.at = expires_after_s(5.0)
    monitor.observe(view(0, incarnation="j"))
    assert monitor.saw_change
    assert not monitor.outlasted("i")
    assert not monitor.outlasted("j")
    monitor.observe(view(3))
    assert not monitor.outlasted("i")


def test_a_worker_stops_before_others_call_its_lease_over() -> None:
    for staleness_s in (1.0, 5.0, 30.0):
        assert 0 < valid_for_s(staleness_s) < expires_after_s(staleness_s) < staleness_s


def test_the_times_of_a_lease_are_these() -> None:
    assert (valid_for_s(5.0), valid_for_s(0.5), valid_for_s(0.2)) == (4.5, 0.0, 0.0)
    assert expires_after_s(5.0) == 4.6


def test_a_lease_begins_at_the_end_that_its_registration_saw() -> None:
    lease = Lease("w", view(5, incarnation="j"))
    assert (lease.name, lease.incarnation, lease.position, lease.heartbeat) == ("w", "j", 5, 0)
    assert [lease.next_heartbeat(), lease.next_heartbeat(), lease.heartbeat] == [1, 2, 2]


def test_a_renewal_that_reported_more_than_the_end_counts() -> None:
    assert Lease("w", view(5)).confirms(6, view(5))


def test_the_entry_that_was_applied_last_is_no_news() -> None:
    lease = Lease("w", view(5))
    assert lease.continues([(5, None), (6, SESSION)])
    assert not lease.continues([(5, None), (7, SESSION)])
    assert lease.unapplied([(6, SESSION), (7, None), (8, KEYS)]) == [(6, SESSION), (8, KEYS)]


def test_a_lease_that_has_applied_nothing_is_waited_for() -> None:
    """It is at the beginning; only one that is still loading is not."""
    pending = PendingConfirmation(view(1, a=LeaseState(1, 0, 0)), [SESSION])
    assert not pending.complete(view(1, a=LeaseState(2, 0, 0)))
    assert pending.complete(view(1, a=LeaseState(3, 1, 0)))


def test_an_own_lease_is_waited_for_by_a_change_of_one_key() -> None:
    key = Change("k", ChangeKind.KEY, "k", 0, Reason.TOKEN_REVOKED, 0)
    pending = PendingConfirmation(view(3, own=LeaseState(1, 3, 2)), [key], ["own"])
    assert not pending.complete(view(3, own=LeaseState(2, 3, 2)))


def test_a_view_of_the_append_itself_is_not_lost() -> None:
    assert not PendingConfirmation(view(3), [SESSION]).lost(view(3))


def test_of_several_silent_leases_each_is_watched_by_itself() -> None:
    hand = Hand()
    monitor = LeaseMonitor(hand, 5.0)
    monitor.observe(view(3, a=LeaseState(7, 3, 3)))
    hand.at = 2.0
    monitor.observe(view(3, a=LeaseState(7, 3, 3), b=LeaseState(0, 3, 3)))
    hand.at = expires_after_s(5.0)
    both = view(3, a=LeaseState(7, 3, 3), b=LeaseState(0, 3, 3))
    assert monitor.observe(both) == [("a", 7)]
    hand.at = 2.0 + expires_after_s(5.0)
    assert monitor.observe(both) == [("a", 7), ("b", 0)]


def test_a_lease_that_comes_back_is_watched_anew() -> None:
    hand = Hand()
    monitor = LeaseMonitor(hand, 5.0)
    held = view(3, a=LeaseState(7, 3, 3))
    monitor.observe(held)
    monitor.observe(view(3))
    hand.at = expires_after_s(5.0)
    assert monitor.observe(held) == []


def test_with_another_incarnation_every_lease_is_watched_anew() -> None:
    hand = Hand()
    monitor = LeaseMonitor(hand, 5.0)
    monitor.observe(view(3, a=LeaseState(7, 3, 3)))
    hand.at = expires_after_s(5.0)
    assert monitor.observe(view(3, incarnation="j", a=LeaseState(7, 3, 3))) == []


def test_before_the_first_view_no_incarnation_was_watched() -> None:
    hand = Hand()
    hand.at = 100.0
    monitor = LeaseMonitor(hand, 5.0)
    assert (monitor.incarnation, monitor.saw_change) == ("", False)
    assert not monitor.outlasted("")
    assert not monitor.outlasted("i")
    monitor.observe(view(3))
    hand.at = 104.5
    assert not monitor.outlasted("i")
    hand.at = 104.75
    assert monitor.outlasted("i")
    assert not monitor.outlasted("j")
