"""What a page of another origin may read of a started gateway's answers."""

from __future__ import annotations

from typing import Any

import pytest

from tests.contract.running import Running


def test_cors_answers_preflights_and_errors(gateway: Running, alice: dict[str, Any]) -> None:
    origin = ("Origin", "https://app.example.com")
    preflight = gateway.call("OPTIONS", "/shared", origin, ("Access-Control-Request-Method", "GET"))
    assert preflight.status in (200, 204)
    assert preflight.get("access-control-allow-origin") == "https://app.example.com"
    assert preflight.get("access-control-allow-credentials") == "true"
    refused = gateway.call("GET", "/shared", origin)
    assert refused.status == 401
    assert refused.get("access-control-allow-origin") == "https://app.example.com"
    assert "origin" in (refused.get("vary") or "").lower()
    foreign = gateway.call(
        "GET", "/shared", ("Origin", "https://evil.example"), token=str(alice["access_token"])
    )
    assert foreign.get("access-control-allow-origin") is None


@pytest.mark.parametrize(
    ("method", "asked", "status"), [("OPTIONS", "DELETE", 403), ("DELETE", None, 405)]
)
def test_a_page_may_read_why_its_method_is_refused(
    gateway: Running, method: str, asked: str | None, status: int
) -> None:
    fields = [("Access-Control-Request-Method", asked)] if asked else []
    for origin in ("https://app.example.com", "https://evil.example"):
        answer = gateway.call(method, "/shared", ("Origin", origin), *fields)
        may_read = "app." in origin
        assert answer.status == status
        assert answer.get("access-control-allow-origin") == (origin if may_read else None)
        assert "origin" in (answer.get("vary") or "").lower()
