"""Which hosts are this very machine, by how they are written."""

from __future__ import annotations

import pytest

from gateway.loopback import is_loopback, is_loopback_or_below


@pytest.mark.parametrize("host", ["localhost", "LocalHost", "127.0.0.1", "127.9.9.9", "::1"])
def test_localhost_and_the_loopback_addresses_are_this_machine(host: str) -> None:
    assert is_loopback(host)
    assert is_loopback_or_below(host)


@pytest.mark.parametrize(
    "host",
    [
        "",
        "localhost.",
        "localhost.evil.example",
        "evil-localhost",
        "127.1",
        "10.0.0.1",
        "::",
        "[::1]",
    ],
)
def test_nothing_else_is_whatever_it_may_be_looked_up_as(host: str) -> None:
    assert not is_loopback(host)
    assert not is_loopback_or_below(host)


def test_a_name_below_localhost_is_where_it_is_asked_for() -> None:
    assert is_loopback_or_below("app.localhost")
    assert not is_loopback("app.localhost")
