"""Who is counted with whom."""

from __future__ import annotations

import pytest

from gateway.client_networks import holder, neighbourhood


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("2001:db8:1:2:3::4", "2001:db8:1:2:ffff::1"),
        ("fe80::1%eth0", "fe80::2"),
        ("", "not an address"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("64:ff9b::192.0.2.7", "192.0.2.7"),
        ("::ffff:0:192.0.2.7", "192.0.2.7"),
        ("2002:c000:207:5::1", "192.0.2.7"),
        ("2002:c000:207:6::1", "2002:c000:207:5::9"),
        ("2001:0:4136:e378:8000:63bf:3fff:fdf8", "192.0.2.7"),
    ],
)
def test_addresses_of_one_holder_count_together(one: str, other: str) -> None:
    assert holder(one) == holder(other)
    assert neighbourhood(one) == neighbourhood(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:3::1"),
        ("192.0.2.7", "192.0.2.8"),
        ("64:ff9b::192.0.2.7", "64:ff9b::192.0.2.8"),
        ("64:ff9b:1::192.0.2.7", "64:ff9b:1::192.0.2.8"),
        ("2002:c000:207::1", "2002:c000:208::1"),
        ("2001:0:4136:e378:8000:63bf:3fff:fdf8", "2001:0:4136:e378:8000:63bf:3fff:fdf7"),
    ],
)
def test_addresses_of_two_holders_count_apart(one: str, other: str) -> None:
    assert holder(one) != holder(other)


def test_a_neighbourhood_of_translated_addresses_is_that_of_ipv4() -> None:
    assert neighbourhood("64:ff9b::192.0.2.7") == "192.0.2.0/24"
    assert neighbourhood("64:ff9b::198.51.100.7") != neighbourhood("64:ff9b::192.0.2.7")
    assert neighbourhood("2001:db8:1:2::1") == "2001:db8:1::/48"
