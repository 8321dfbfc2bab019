"""Credentials that were good, and the shares of those that anybody may have made up."""

from __future__ import annotations

from gateway.identity.made_up import AddressShares, GoodOnes


def test_the_latest_that_were_good_are_known() -> None:
    good: GoodOnes[str] = GoodOnes(2)
    for digest in ("a", "b", "a", "c"):
        good.note(digest, is_good=True)
    assert [digest in good for digest in "abc"] == [True, False, True]


def test_one_that_is_good_no_more_is_forgotten_and_no_other() -> None:
    good: GoodOnes[str] = GoodOnes(2)
    good.note("a", is_good=True)
    good.note("a", is_good=False)
    good.note("made up", is_good=False)
    good.note("b", is_good=True)
    good.note("c", is_good=True)
    assert [digest in good for digest in ("a", "made up", "b", "c")] == [False, False, True, True]


def test_each_address_has_a_share_and_gets_it_back() -> None:
    shares = AddressShares(1)
    shares.take("192.0.2.1")
    assert not shares.has_room("192.0.2.1")
    assert shares.has_room("192.0.2.2")
    shares.take("192.0.2.2")
    assert shares.under_way == 2
    shares.give_back("192.0.2.1")
    assert shares.has_room("192.0.2.1")
    assert shares.under_way == 1
