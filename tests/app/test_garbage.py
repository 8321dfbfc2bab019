"""What refers to itself is freed within a minute, however few the calls are."""

from __future__ import annotations

import gc
import itertools
import time
import weakref
from collections.abc import Iterator
from typing import cast

import pytest

from gateway.app.components import Components
from gateway.app.maintenance import QUICK_S, WHOLE_SWEEP_EVERY, Maintenance


class Cycle:
    def __init__(self) -> None:
        self.own = self


@pytest.mark.usefixtures("only_asked_for")
def test_all_garbage_goes_with_the_next_sweep_where_that_is_quick(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(time, "thread_time", lambda: 0.0)
    maintenance = Maintenance(cast(Components, None))
    for _ in range(3):
        old = Cycle()
        gc.collect()  # what lives is old from now on
        ended = weakref.ref(old)
        del old
        maintenance.collect_garbage()
        assert ended() is None


@pytest.mark.usefixtures("only_asked_for")
def test_young_garbage_goes_with_the_next_sweep_and_old_with_the_tenth(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where many objects are walked."""
    maintenance = Maintenance(cast(Components, None))
    seconds = itertools.count(0.0, 2 * QUICK_S)
    monkeypatch.setattr(time, "thread_time", lambda: next(seconds))
    maintenance.collect_garbage()
    old = Cycle()
    gc.collect()
    young, ended = weakref.ref(Cycle()), weakref.ref(old)
    del old
    maintenance.collect_garbage()
    assert young() is None
    assert ended() is not None
    for _ in range(WHOLE_SWEEP_EVERY - 2):
        maintenance.collect_garbage()
    assert ended() is None


@pytest.fixture
def only_asked_for() -> Iterator[None]:
    """No collection but those that are asked for."""
    gc.disable()
    yield
    gc.enable()
