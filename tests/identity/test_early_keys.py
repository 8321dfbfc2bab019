"""The keys of a first start: made side by side, taken once."""

from __future__ import annotations

import threading

import pytest

from gateway.identity.keys.early_keys import EarlyKeys
from gateway.identity.keys.jwk import Alg, PrivateKey, generate


def test_each_is_made_in_a_thread_of_its_own_and_taken_once() -> None:
    both, made = threading.Barrier(2, timeout=10), list[Alg]()

    def make(alg: Alg) -> PrivateKey:
        if len(made) < 2:
            made.append(alg)
            both.wait()
        return generate(alg)

    early = EarlyKeys(Alg.EDDSA, 2, make)
    early.wait()
    taken = {early.take(Alg.EDDSA).private_bytes_raw() for _ in range(3)}  # type: ignore[union-attr]
    assert len(taken) == 3
    assert made == [Alg.EDDSA] * 2


def test_a_key_of_another_algorithm_is_made_when_it_is_asked_for() -> None:
    early = EarlyKeys(Alg.EDDSA, 1)
    assert early.take(Alg.ES256).key_size == 256  # type: ignore[union-attr]


def test_what_keeps_a_key_from_being_made_is_told_to_whoever_takes_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def make(_: Alg) -> PrivateKey:
        raise MemoryError

    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    early = EarlyKeys(Alg.EDDSA, 1, make)
    early.wait()
    with pytest.raises(MemoryError):
        early.take(Alg.EDDSA)
