"""`python -m bench.pages` measures what it says, and no page is long."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.pages import BYTES_MAX, PAGES, measure
from tests.contract.running import started

pytestmark = pytest.mark.slow


def test_each_page_is_asked_for_and_short(tmp_path: Path) -> None:
    with started(
        tmp_path, GATEWAY_EMAIL_VERIFICATION="off", GATEWAY_REGISTRATION="open"
    ) as gateway:
        measured = measure(gateway, rounds=3)
    assert tuple(measured) == PAGES
    for page, one in measured.items():
        assert 500 < one["bytes"] < BYTES_MAX, page
        assert 0 < one["p50_ms"] <= one["p95_ms"]
