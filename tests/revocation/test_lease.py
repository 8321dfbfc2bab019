"""The judgements of a lease, one by one."""

from __future__ import annotations

from gateway.model import Change, ChangeKind, Reason
from gateway.revocation.lease import Confirmation, Tenure, Watch, good_for_s, over_after_s
from gateway.stores.protocols import Held, View

SESSION = Change("c", ChangeKind.SESSION, "s", 0, Reason.TOKEN_REVOKED, 0)
KEYS = Change("k", ChangeKind.KEYS, "k", 0, Reason.TOKEN_REVOKED, 0)


def view(
    end: int,
    entries: dict[int, Change | None] | None = None,
    incarnation: str = "i",
    **leases: Held,
) -> View:
    return View(incarnation, end, leases, list((entries or {}).items()))


class Hand:
    def __init__(self) -> None:
        self.at = 0.0

    def __call__(self) -> float:
        return self.at


def test_a_renewal_counts_only_when_it_reported_the_end_of_its_own_round_trip() -> None:
    tenure = Tenure("w", view(5))
    assert tenure.counts(5, view(5))
    tenure.position = 6
    assert not tenure.counts(5, view(6))


def test_another_incarnation_is_not_followed_even_where_its_numbers_fit() -> None:
    tenure = Tenure("w", view(5))
    assert tenure.follows(5, view(6, {6: SESSION}))
    assert not tenure.follows(5, view(6, {6: SESSION}, incarnation="j"))
    assert not tenure.follows(5, None)


def test_an_end_behind_what_the_renewal_reported_is_not_followed() -> None:
    assert not Tenure("w", view(5)).follows(5, view(4))


def test_news_that_overtook_the_answer_to_a_renewal_do_not_cost_the_lease() -> None:
    tenure = Tenure("w", view(5))
    tenure.position = 7
    assert tenure.follows(5, view(5))
    assert tenure.follows(5, view(6, {6: SESSION}))


def test_a_gap_or_an_entry_that_cannot_be_read_is_not_followed() -> None:
    tenure = Tenure("w", view(5))
    assert not tenure.follows(5, view(8, {7: SESSION, 8: SESSION}))
    assert not tenure.follows(5, view(7, {6: SESSION, 7: None}))
    assert tenure.follows(5, view(7, {5: None, 6: SESSION, 7: SESSION}))


def test_only_what_is_new_is_news() -> None:
    assert Tenure("w", view(5)).news([(5, KEYS), (6, SESSION)]) == [(6, SESSION)]


def test_every_lease_of_the_appends_moment_is_waited_for_and_no_later_one() -> None:
    confirmation = Confirmation(view(3, a=Held(1, 2, 2), b=Held(1, 3, 3)), [SESSION])
    assert not confirmation.holds(view(3, a=Held(2, 2, 2), b=Held(1, 3, 3)))
    assert confirmation.holds(view(4, a=Held(3, 3, 3), c=Held(0, 0, 0)))


def test_a_lease_that_is_gone_or_still_loading_is_not_waited_for() -> None:
    confirmation = Confirmation(view(3, a=Held(1, 2, 2), b=Held(1, -1, -1)), [SESSION])
    assert confirmation.holds(view(3, b=Held(2, -1, -1)))


def test_a_change_of_keys_waits_for_their_reading_at_home_too() -> None:
    confirmation = Confirmation(view(3, own=Held(1, 3, 2)), [SESSION, KEYS], ["own"])
    assert not confirmation.holds(view(3, own=Held(2, 3, 2)))
    assert confirmation.holds(view(3, own=Held(3, 3, 3)))


def test_another_change_does_not_wait_for_the_keys_or_for_itself() -> None:
    appended = view(3, own=Held(1, 2, 2), other=Held(1, 3, 1))
    assert Confirmation(appended, [SESSION], ["own"]).holds(appended)


def test_an_announcement_is_given_up_with_its_incarnation() -> None:
    confirmation = Confirmation(view(3), [SESSION])
    assert not confirmation.given_up(view(9))
    assert confirmation.given_up(view(9, incarnation="j"))
    assert confirmation.given_up(view(2))


def test_a_silent_lease_is_over_only_after_its_holder_must_have_fenced_itself() -> None:
    hand = Hand()
    watch = Watch(hand, 5.0)
    held = view(3, a=Held(7, 3, 3))
    assert watch.see(held) == []
    hand.at = good_for_s(5.0)
    assert watch.see(held) == []
    hand.at = over_after_s(5.0)
    assert watch.see(held) == [("a", 7)]


def test_a_renewed_lease_is_watched_anew() -> None:
    hand = Hand()
    watch = Watch(hand, 5.0)
    watch.see(view(3, a=Held(7, 3, 3)))
    hand.at = 4.5
    watch.see(view(3, a=Held(8, 3, 3)))
    hand.at = 9.0
    assert watch.see(view(3, a=Held(8, 3, 3))) == []


def test_the_lease_of_a_process_that_is_gone_is_over_at_once() -> None:
    watch = Watch(Hand(), 5.0, lambda name: name == "dead")
    assert watch.see(view(3, dead=Held(1, 3, 3), alive=Held(1, 3, 3))) == [("dead", 1)]


def test_an_incarnation_outlasts_older_leases_once_it_was_watched_alone() -> None:
    hand = Hand()
    watch = Watch(hand, 5.0)
    watch.see(view(3))
    assert not watch.outlasted("i")
    hand.at = over_after_s(5.0)
    assert watch.outlasted("i")
    assert not watch.saw_one_end


def test_an_incarnation_that_comes_back_is_watched_anew() -> None:
    hand = Hand()
    watch = Watch(hand, 5.0)
    watch.see(view(3))
    hand.at = over_after_s(5.0)
    watch.see(view(0, incarnation="j"))
    assert watch.saw_one_end
    assert not watch.outlasted("i")
    assert not watch.outlasted("j")
    watch.see(view(3))
    assert not watch.outlasted("i")


def test_a_worker_stops_before_others_call_its_lease_over() -> None:
    for staleness_s in (1.0, 5.0, 30.0):
        assert 0 < good_for_s(staleness_s) < over_after_s(staleness_s) < staleness_s
