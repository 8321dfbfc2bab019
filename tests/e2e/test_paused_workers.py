"""A worker that stood still passes nothing of a session that was signed out meanwhile."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.contract.running import started
from tests.e2e.pausing import Pausing

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def pausing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pausing]:
    folder = tmp_path_factory.mktemp("pausing") / "g"
    with started(folder, "--workers", "2", GATEWAY_MAX_STALENESS_S="2") as running:
        made = Pausing(running)
        made.install()
        yield made
        made.talker.shutdown()


def test_no_frame_or_event_passes_a_worker_that_stood_still_over_the_sign_out(
    pausing: Pausing,
) -> None:
    """Not one that it received before it knew; `python -m bench.paused` does twenty runs."""
    held = 0
    for _ in range(2):
        passed = pausing.run("paused@example.com")
        assert (passed.frames, passed.events) == (0, 0)
        held += passed.held
    assert held > 0
