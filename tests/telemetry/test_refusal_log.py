"""Refusals in the log: each can be found by its id, and a flood of them stays small."""

from __future__ import annotations

from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from gateway.access.simulation import FixedClock, SimulatedRequest, simulate
from gateway.model import Reason
from gateway.telemetry import refusal_log
from gateway.telemetry.refusal_log import OF_A_REASON, OF_ALL, RefusalLog
from tests.access.worlds import NOW, rule_world, who

WORLD = rule_world("- {id: own, allow: ['*'], when: resource.owner == user.id}")


def tell(to: RefusalLog, url: str, request_id: str) -> None:
    answer = simulate(SimulatedRequest("GET", url, who("u1"), clock=FixedClock(NOW)), WORLD)
    to.decided(answer.call, answer.decision, 403, request_id)


@pytest.fixture(autouse=True)
def _uncached(monkeypatch: pytest.MonkeyPatch) -> None:
    """A logger that another test has used writes where that test wanted."""
    monkeypatch.setattr(refusal_log, "log", structlog.get_logger())


def written(log: RefusalLog) -> list[Any]:
    with capture_logs() as lines:
        refusal_log._write(*log._taken())
    return list(lines)


def test_a_denied_call_is_told_with_its_id_and_reason_and_an_allowed_one_is_not() -> None:
    log = RefusalLog()
    tell(log, "/orders/u1", "allowed")
    tell(log, "/orders/u2", "denied")
    (line,) = written(log)
    assert (line["event"], line["log_level"]) == ("refused", "info")
    assert (line["request_id"], line["reason"], line["status"]) == ("denied", "no_rule", 403)
    assert (line["subject"], line["method"]) == ("u1", "GET")


def test_what_never_became_a_call_and_what_an_endpoint_refused_are_told() -> None:
    log = RefusalLog()
    log.refused(Reason.UPSTREAM_UNREACHABLE, "down", "one")
    log.answered("invalid_credentials", 401, "POST", "two")
    first, second = written(log)
    assert (first["request_id"], first["route"]) == ("one", "down")
    assert (second["request_id"], second["status"]) == ("two", 401)


def test_a_method_that_somebody_made_up_is_not_written() -> None:
    log = RefusalLog()
    log.answered("method_not_allowed", 405, "X" * 1000, "one")
    assert "method" not in written(log)[0]


def test_a_flood_is_sampled_and_counted_and_hides_no_other_reason() -> None:
    log = RefusalLog()
    for n in range(10_000):
        log.refused(Reason.ROUTE_UNKNOWN, "", f"flood-{n}")
    log.refused(Reason.UPSTREAM_TIMEOUT, "orders", "rare")
    lines = written(log)
    told = [line["request_id"] for line in lines if line["event"] == "refused"]
    assert told == [*(f"flood-{n}" for n in range(OF_A_REASON)), "rare"]
    (omitted,) = [line for line in lines if line["event"] == "refusals-omitted"]
    assert omitted["count"] == 10_000 - OF_A_REASON
    assert omitted["reasons"] == {"route_unknown": 10_000 - OF_A_REASON}
    # And the next second is another one.
    log.refused(Reason.ROUTE_UNKNOWN, "", "later")
    assert [line["request_id"] for line in written(log)] == ["later"]


def test_however_many_reasons_there_are_so_many_lines_are_held() -> None:
    log = RefusalLog()
    for n in range(1_000):
        log.answered(f"made-{n}", 403, "GET", str(n))
    lines = written(log)
    assert len(lines) == OF_ALL + 1
    assert lines[-1]["count"] == 1_000 - OF_ALL
    assert len(lines[-1]["reasons"]) == 20
