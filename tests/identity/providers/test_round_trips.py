"""A round trip counts once, in its browser, for its provider, and for ten minutes."""

from __future__ import annotations

import pytest

from gateway.identity.providers.round_trips import (
    COOKIE_MAX,
    TRIP_TTL_S,
    TRIPS_MAX,
    LinkRequest,
    RoundTrip,
    RoundTrips,
)
from gateway.identity.sealed_tokens import SealedTokens
from tests.databases import Hands
from tests.nonces import Once


def value_of(line: str) -> str:
    return line.partition("=")[2].partition(";")[0]


@pytest.fixture
def clock() -> Hands:
    return Hands()


@pytest.fixture
def trips(clock: Hands) -> RoundTrips:
    return RoundTrips(b"k" * 32, Once(), clock)


async def test_a_trip_comes_back_once(trips: RoundTrips) -> None:
    sent = RoundTrip("idp", "sealed", LinkRequest("a", "s"), 60, begun_at=7)
    begun = trips.begin(sent, "")
    assert begun.cookie.startswith("__Host-provider=")
    for attribute in ("Path=/", "Secure", "HttpOnly", "SameSite=Lax", f"Max-Age={TRIP_TTL_S}"):
        assert attribute in begun.cookie
    cookie = value_of(begun.cookie)
    drawn = begun.trip
    assert len({drawn.state, drawn.nonce, drawn.verifier}) == 3
    assert len(drawn.verifier) >= 43
    assert drawn.verifier not in cookie
    back = await trips.end(drawn.state, "idp", cookie)
    assert back == drawn
    assert (back.return_to, back.link) == ("sealed", LinkRequest("a", "s"))
    assert (back.max_age_s, back.begun_at) == (60, 7)
    assert await trips.end(drawn.state, "idp", cookie) is None
    assert value_of(trips.without(drawn.state, cookie)) == ""


async def test_a_trip_of_another_browser_provider_or_key_is_none(
    trips: RoundTrips, clock: Hands
) -> None:
    begun = trips.begin(RoundTrip("idp", ""), "")
    cookie = value_of(begun.cookie)
    other = trips.begin(RoundTrip("idp", ""), "")
    for state, provider, held in (
        (begun.trip.state, "idp", value_of(other.cookie)),
        (begun.trip.state, "idp", ""),
        (begun.trip.state, "other", cookie),
        (other.trip.state, "idp", cookie),
        ("", "idp", cookie),
        ("é", "idp", cookie),
        (begun.trip.state, "idp", cookie[:-2]),
    ):
        assert await trips.end(state, provider, held) is None
    elsewhere = RoundTrips(b"o" * 32, Once(), clock)
    assert await elsewhere.end(begun.trip.state, "idp", cookie) is None
    clock.move(TRIP_TTL_S)
    assert await trips.end(begun.trip.state, "idp", cookie) is None


async def test_several_tabs_have_a_trip_each_and_the_cookie_stays_short(trips: RoundTrips) -> None:
    cookie, begun = "", []
    for _ in range(TRIPS_MAX + 2):
        one = trips.begin(RoundTrip("idp", "r" * 200), cookie)
        cookie = value_of(one.cookie)
        begun.append(one.trip)
        assert len(cookie) <= COOKIE_MAX
    assert await trips.end(begun[0].state, "idp", cookie) is None
    assert await trips.end(begun[-1].state, "idp", cookie) == begun[-1]
    assert await trips.end(begun[-2].state, "idp", cookie) == begun[-2]
    assert len(value_of(trips.without(begun[-1].state, cookie))) < len(cookie)


async def test_a_long_way_back_is_kept_and_a_longer_one_forgotten(trips: RoundTrips) -> None:
    one = trips.begin(RoundTrip("idp", "r" * 2_048), "x" * 5_000)
    assert len(value_of(one.cookie)) <= 4_000
    assert one.trip.return_to == "r" * 2_048
    assert trips.begin(RoundTrip("idp", "r" * 2_049), "").trip.return_to == ""


def test_a_permit_is_for_one_session_and_provider(trips: RoundTrips, clock: Hands) -> None:
    permit = trips.permit("idp", "session-1")
    assert trips.permits(permit, "idp", "session-1")
    assert not trips.permits(permit, "idp", "session-2")
    assert not trips.permits(permit, "other", "session-1")
    assert not trips.permits("", "idp", "session-1")
    assert not trips.permits(value_of(trips.begin(RoundTrip("idp", ""), "").cookie), "idp", "s")
    clock.move(TRIP_TTL_S)
    assert not trips.permits(permit, "idp", "session-1")


@pytest.mark.parametrize("made_up", ["." * 16_000, "a." * 8_000])
async def test_of_a_cookie_that_a_stranger_made_up_few_trips_are_tried(
    trips: RoundTrips, monkeypatch: pytest.MonkeyPatch, made_up: str
) -> None:
    tried = []
    opened = SealedTokens.open

    def counted(sealed_tokens: SealedTokens, kind: bytes, sealed: str) -> object:
        tried.append(sealed)
        return opened(sealed_tokens, kind, sealed)

    monkeypatch.setattr(SealedTokens, "open", counted)
    assert await trips.end("state", "idp", made_up) is None
    trips.begin(RoundTrip("idp", ""), made_up)
    assert value_of(trips.without("state", made_up)) == ""
    assert len(tried) <= 3 * TRIPS_MAX
