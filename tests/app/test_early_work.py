"""What a first start makes beside its reading: side by side, taken once."""

from __future__ import annotations

import itertools
import threading

import pytest

from gateway.app.early_work import EarlyWork


def test_each_is_made_in_a_thread_of_its_own_and_taken_once() -> None:
    both, numbers = threading.Barrier(2, timeout=10), itertools.count()

    def make() -> int:
        number = next(numbers)
        if number < 2:
            both.wait()
        return number

    early = EarlyWork(make, 2)
    early.wait()
    assert next(numbers) == 2
    assert {early.take() for _ in range(3)} == {0, 1, 3}


def test_what_keeps_it_from_being_made_is_told_to_whoever_takes_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def make() -> int:
        raise MemoryError

    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    early = EarlyWork(make)
    early.wait()
    with pytest.raises(MemoryError):
        early.take()
