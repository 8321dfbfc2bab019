from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.identity.key_derivation import KeyPurpose, derived_key
from gateway.identity.sign_in.devices import LIFE_S, Devices, device_counter, set_cookie
from tests.databases import NOON

ANN, BOB = "ann@x.example", "bob@x.example"
DEVICES = Devices(derived_key(b"s" * 32, KeyPurpose.DEVICE))


def test_a_browser_that_signed_in_is_known_for_that_account_and_no_other() -> None:
    cookie = DEVICES.remember(None, ANN, 0, NOON)
    assert DEVICES.claimed(cookie, ANN, NOON) is not None
    assert DEVICES.claimed(cookie, BOB, NOON) is None


def test_a_browser_stays_one_device_for_each_of_its_accounts() -> None:
    first = DEVICES.remember(None, ANN, 0, NOON)
    both = DEVICES.remember(first, BOB, 0, NOON)
    one, other = DEVICES.claimed(first, ANN, NOON), DEVICES.claimed(both, ANN, NOON)
    assert one is not None
    assert other is not None
    assert one.id == other.id
    assert DEVICES.claimed(both, BOB, NOON) is not None


def test_the_latest_tag_of_a_device_is_of_whoever_signed_in_with_it_last() -> None:
    of_ann = DEVICES.known(DEVICES.remember(None, ANN, 9, NOON), NOON)
    of_bob = DEVICES.known(DEVICES.remember(None, BOB, 9, NOON), NOON)
    cookie = DEVICES.remember(DEVICES.remember(None, ANN, 9, NOON), BOB, 9, NOON)
    both = DEVICES.known(cookie, NOON)
    assert of_ann is not None
    assert of_bob is not None
    assert both is not None
    assert both.latest_tag == of_bob.latest_tag != of_ann.latest_tag


def test_the_tag_of_a_cookie_of_before_a_changed_password_is_another() -> None:
    tags = set()
    for epoch in (3, 4, 4):
        device = DEVICES.known(DEVICES.remember(None, ANN, epoch, NOON), NOON)
        assert device is not None
        tags.add(device.latest_tag)
    assert len(tags) == 2


def test_the_account_that_signed_in_longest_ago_is_forgotten_first() -> None:
    cookie = None
    for number in range(6):
        cookie = DEVICES.remember(cookie, f"{number}@x.example", 0, NOON)
    assert DEVICES.claimed(cookie, "0@x.example", NOON) is None
    assert DEVICES.claimed(cookie, "1@x.example", NOON) is not None


def test_a_device_is_forgotten_after_180_days() -> None:
    cookie = DEVICES.remember(None, ANN, 0, NOON)
    assert DEVICES.claimed(cookie, ANN, NOON + LIFE_S - 60) is not None
    assert DEVICES.claimed(cookie, ANN, NOON + LIFE_S - 59) is None


@pytest.mark.parametrize(("ahead_s", "known"), [(60, True), (61, False), (3600, False)])
def test_a_cookie_of_more_than_a_minute_ahead_is_refused(ahead_s: int, known: bool) -> None:
    cookie = DEVICES.remember(None, ANN, 0, NOON + ahead_s)
    assert (DEVICES.claimed(cookie, ANN, NOON) is not None) is known


def test_the_account_that_signs_in_again_is_forgotten_last() -> None:
    cookie = None
    for number in (0, 1, 2, 3, 4, 0, 5):
        cookie = DEVICES.remember(cookie, f"{number}@x.example", 0, NOON)
    assert DEVICES.claimed(cookie, "0@x.example", NOON) is not None
    assert DEVICES.claimed(cookie, "1@x.example", NOON) is None


def test_a_sign_in_renews_the_time_of_the_cookie() -> None:
    first = DEVICES.remember(None, ANN, 0, NOON)
    again = DEVICES.remember(first, ANN, 0, NOON + 100)
    assert DEVICES.claimed(again, ANN, NOON + 100 + LIFE_S - 60) is not None


def test_a_device_is_not_current_for_an_account_that_it_does_not_know() -> None:
    device = DEVICES.claimed(DEVICES.remember(None, ANN, 0, NOON), ANN, NOON)
    assert device is not None
    assert not DEVICES.current(device, BOB, 0)


def test_a_changed_password_makes_every_cookie_of_before_a_strangers() -> None:
    device = DEVICES.claimed(DEVICES.remember(None, ANN, 3, NOON), ANN, NOON)
    assert device is not None
    assert DEVICES.current(device, ANN, 3)
    assert not DEVICES.current(device, ANN, 4)


def test_the_epoch_of_one_account_says_nothing_of_another() -> None:
    cookie = DEVICES.remember(DEVICES.remember(None, ANN, 3, NOON), BOB, 4, NOON)
    device = DEVICES.claimed(cookie, BOB, NOON)
    assert device is not None
    assert DEVICES.current(device, ANN, 3)
    assert not DEVICES.current(device, BOB, 3)


@given(st.data())
def test_a_cookie_with_one_other_letter_is_worth_nothing(data: st.DataObject) -> None:
    cookie = DEVICES.remember(None, ANN, 0, NOON)
    place = data.draw(st.integers(0, len(cookie) - 1))
    letter = data.draw(st.characters(codec="ascii").filter(lambda c: c != cookie[place]))
    assert DEVICES.claimed(cookie[:place] + letter + cookie[place + 1 :], ANN, NOON) is None


@given(st.text())
def test_any_other_text_is_no_device(text: str) -> None:
    assert DEVICES.claimed(text, ANN, NOON) is None


def test_a_forged_cookie_does_not_live_on_in_the_next_one() -> None:
    forged = Devices(b"x" * 32).remember(None, BOB, 0, NOON)
    cookie = DEVICES.remember(forged, ANN, 0, NOON)
    assert DEVICES.claimed(cookie, BOB, NOON) is None


def test_the_cookie_names_no_account_to_whoever_reads_it() -> None:
    assert "ann" not in DEVICES.remember(None, ANN, 0, NOON)


def test_each_account_on_a_device_has_its_own_count() -> None:
    cookie = DEVICES.remember(DEVICES.remember(None, ANN, 0, NOON), BOB, 0, NOON)
    ann, bob = DEVICES.claimed(cookie, ANN, NOON), DEVICES.claimed(cookie, BOB, NOON)
    assert ann is not None
    assert bob is not None
    assert device_counter(ann, ANN) != device_counter(bob, BOB)


def test_the_cookie_has_the_attributes_that_its_prefix_asks_for() -> None:
    words = set_cookie("v").split("; ")
    assert words[:2] == ["__Host-device=v", "Max-Age=15552000"]
    assert {"Secure", "Path=/", "HttpOnly", "SameSite=Lax"} < set(words)
    assert not any(word.startswith("Domain") for word in words)


@pytest.mark.parametrize("purpose", list(KeyPurpose))
def test_every_purpose_has_a_key_of_its_own(purpose: KeyPurpose) -> None:
    others = [derived_key(b"s" * 32, other) for other in KeyPurpose if other is not purpose]
    assert derived_key(b"s" * 32, purpose) not in others
