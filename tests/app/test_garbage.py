"""What refers to itself is freed within a minute, however few the calls are."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from typing import cast

import pytest

from gateway.app.components import Components
from gateway.app.maintenance import WHOLE_SWEEP_EVERY, Maintenance


class Cycle:
    def __init__(self) -> None:
        self.own = self


@pytest.mark.usefixtures("only_asked_for")
def test_young_garbage_goes_with_the_next_sweep_and_old_with_the_tenth() -> None:
    maintenance = Maintenance(cast(Components, None))
    old = Cycle()
    gc.collect()  # what lives is old from now on
    young, ended = weakref.ref(Cycle()), weakref.ref(old)
    del old
    maintenance.collect_garbage()
    assert young() is None
    assert ended() is not None
    for _ in range(WHOLE_SWEEP_EVERY - 1):
        maintenance.collect_garbage()
    assert ended() is None


@pytest.fixture
def only_asked_for() -> Iterator[None]:
    """No collection but those that are asked for."""
    gc.disable()
    yield
    gc.enable()
