"""Whole decisions, as `decision_cases` has them, and names under which another route is not reached."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.access.authorizer import Authorizer
from gateway.access.simulation import FixedClock, run_sync
from gateway.model import Principal, Reason
from tests.access.asked import Callers, Limits
from tests.access.decision_cases import CASES
from tests.access.decision_world import WORLD, call_of, told
from tests.access.worlds import NOW, who


def decided(
    request: str, caller: Principal | Reason = Reason.NO_CREDENTIAL, *waits_s: float, **more: Any
) -> tuple[dict[str, Any], list[tuple[Any, ...]]]:
    limits = Limits(*waits_s)
    gate = Authorizer(Callers(caller), limits, clock=FixedClock(NOW))
    return told(run_sync(gate, call_of(request, caller, **more), WORLD)), limits.asked


@pytest.mark.parametrize(("request_", "caller", "waits_s", "decision", "asked"), CASES)
def test_a_decision_says_all_that_is_recorded_of_it(
    request_: str,
    caller: Principal | Reason,
    waits_s: list[float],
    decision: dict[str, Any],
    asked: list[tuple[Any, ...]],
) -> None:
    assert decided(request_, caller, *waits_s) == (decision, asked)


@pytest.mark.parametrize(
    ("request_", "reason", "target"),
    [
        ("GET /files/x;y", "ambiguous_path", ""),
        ("GET /posted/a;b", "method_not_allowed", ""),
        ("POST /posted/a;b", "route_public", "/posted/a;b"),
        ("GET http://h.example/there/a;b", "method_not_allowed", ""),
        ("GET /there/a;b", "ambiguous_path", ""),
        ("GET /lost/guarded", "ambiguous_path", ""),
        ("GET /lost/guarded?a=b", "ambiguous_path", ""),
        ("GET /lost/guarded/a", "signed_in", "/guarded/a"),
        ("GET /lost/both", "signed_in", "/both"),
        ("POST /lost/both", "ambiguous_path", ""),
        ("GET /name/a%2Fb", "route_public", "/name/a%2Fb"),
        ("POST /name/a%2Fb", "ambiguous_path", ""),
        ("POST /name/a%2Fc", "route_public", "/name/a%2Fc"),
        ("GET /moved/a;b", "signed_in", "/a;b"),
        ("GET /moved/guarded;b", "ambiguous_path", ""),
        ("GET /moved/guarded", "ambiguous_path", ""),
    ],
)
def test_no_other_route_is_reached_by_another_name(request_: str, reason: str, target: str) -> None:
    decision, _ = decided(request_, who("u1"))
    assert (decision["reason"], decision.get("target", "")) == (reason, target)
