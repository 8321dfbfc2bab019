"""How long a call has waited for its own client, in sum."""

from __future__ import annotations

from gateway.edge.proxy.client_wait import READ_ON, SEND_ON, ClientWait


def test_a_byte_ends_the_wait_of_a_moment_and_not_what_it_has_cost() -> None:
    wait = ClientWait()
    for at in range(10):
        wait.begin(SEND_ON, float(at))
        wait.end(SEND_ON, at + 0.75)
    wait.begin(SEND_ON, 10.0)
    assert wait.in_all_s(10.5) == 8.0


def test_who_is_not_waited_for_now_has_cost_nothing() -> None:
    wait = ClientWait()
    wait.begin(READ_ON, 1.0)
    wait.end(READ_ON, 3.0)
    assert wait.in_all_s(9.0) == 0.0


def test_two_waits_at_once_count_once_and_end_with_the_second() -> None:
    wait = ClientWait()
    wait.begin(SEND_ON, 10.0)
    wait.begin(READ_ON, 11.0)
    wait.begin(READ_ON, 11.5)
    wait.end(SEND_ON, 12.0)
    assert wait.in_all_s(12.5) == 2.5
    wait.end(READ_ON, 13.0)
    wait.end(READ_ON, 20.0)
    wait.begin(SEND_ON, 30.0)
    assert wait.in_all_s(31.0) == 4.0
