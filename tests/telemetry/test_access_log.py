"""The access log: each refusal can be found by its id, and a flood of them stays bounded."""

from __future__ import annotations

import json
import os
import tracemalloc
from pathlib import Path
from typing import Any

from gateway.access.simulation import FixedClock, SimulatedRequest, simulate
from gateway.model import Reason
from gateway.telemetry.access_log import (
    MAX_BODY_CHARACTERS,
    MAX_OF_A_REASON,
    MAX_REFUSALS,
    REMEMBERED,
    AccessLog,
    AccessLogOptions,
)
from gateway.telemetry.access_record import AnsweredRequest, fields_of_line
from tests.access.worlds import NOW, rule_world, snapshot, who

WORLD = rule_world("""
  - {id: own, allow: ['*'], when: resource.owner == user.id}
  - {id: foreign, deny: ['*'], when: resource.owner != user.id, reason: not_yours}
""")


def log_to(path: Path, sample: float | None = 0.0, **more: Any) -> AccessLog:
    return AccessLog(
        AccessLogOptions(sample, path=path, **more),
        FixedClock(NOW),
        lambda: "v1",
        chance=lambda: 0.5,
    )


def tell(to: AccessLog, url: str, request_id: str, status: int) -> None:
    answer = simulate(SimulatedRequest("GET", url, who("u1"), clock=FixedClock(NOW)), WORLD)
    to.decided(answer.call, answer.decision, status, request_id, 0.001)


def request(request_id: str, status: int = 404, path: str = "/") -> AnsweredRequest:
    return AnsweredRequest(request_id, status, "192.0.2.1", "GET", "h", path)


def lines(path: Path) -> list[dict[str, Any]]:
    found = [fields_of_line(line) for line in path.read_text().splitlines()]
    assert None not in found
    return [one for one in found if one is not None]


async def test_each_refusal_is_written_and_what_was_allowed_is_not(tmp_path: Path) -> None:
    log = log_to(tmp_path / "a")
    assert not log.takes_allowed
    tell(log, "/orders/u1", "allowed", 200)
    tell(log, "/orders/u2", "denied", 403)
    log.refused(Reason.UPSTREAM_UNREACHABLE, "down", request("failed", 502))
    log.answered("invalid_credentials", request("sign-in", 401))
    log.answered(None, request("good", 200))
    await log.flush()
    told = {line["http.request.id"]: line for line in lines(tmp_path / "a")}
    assert list(told) == ["denied", "failed", "sign-in"]
    assert [line["event.reason"] for line in told.values()] == [
        "not_yours",
        "upstream_unreachable",
        "invalid_credentials",
    ]
    assert told["failed"]["authgate.route"] == "down"
    assert {line["process.pid"] for line in told.values()} == {os.getpid()}


async def test_good_answers_are_written_where_they_are_asked_for(tmp_path: Path) -> None:
    for sample, written in ((1.0, 2), (0.6, 2), (0.4, 0)):
        log = log_to(tmp_path / f"a{sample}", sample)
        assert log.takes_allowed
        tell(log, "/orders/u1", "allowed", 200)
        log.answered(None, request("good", 200))
        tell(log, "/orders/u2", "denied", 403)
        await log.flush()
        told = lines(tmp_path / f"a{sample}")
        assert len(told) == written + 1
        assert {line["event.outcome"] for line in told[:written]} <= {"success"}


async def test_off_writes_nothing_and_still_knows_the_last_refusals(tmp_path: Path) -> None:
    log = log_to(tmp_path / "a", None)
    for number in range(REMEMBERED + 10):
        log.refused(Reason.ROUTE_UNKNOWN, "", request(f"r{number}"))
    await log.flush()
    assert not (tmp_path / "a").exists()
    assert log.find("r9") is None
    assert log.find("r10") is not None


async def test_a_flood_is_bounded_and_a_rare_refusal_is_written_beside_it(tmp_path: Path) -> None:
    log = log_to(tmp_path / "a")
    for number in range(5_000):
        log.refused(Reason.ROUTE_UNKNOWN, "", request(f"flood-{number}"))
    log.refused(Reason.UPSTREAM_TIMEOUT, "slow", request("rare", 504))
    await log.flush()
    told = [line["http.request.id"] for line in lines(tmp_path / "a")]
    assert (len(told), told[-1]) == (MAX_OF_A_REASON + 1, "rare")
    assert log.dropped == 5_000 - MAX_OF_A_REASON
    # And what comes later has room again.
    log.refused(Reason.ROUTE_UNKNOWN, "", request("later"))
    await log.flush()
    assert lines(tmp_path / "a")[-1]["http.request.id"] == "later"


async def test_however_many_reasons_there_are_so_many_wait(tmp_path: Path) -> None:
    log = log_to(tmp_path / "a")
    for number in range(MAX_REFUSALS * 2):
        log.answered(f"made-{number}", request(str(number), 403))
    await log.flush()
    assert len(lines(tmp_path / "a")) == MAX_REFUSALS


async def test_lines_that_cannot_be_written_are_counted(tmp_path: Path) -> None:
    log = log_to(tmp_path)
    log.refused(Reason.ROUTE_UNKNOWN, "", request("one"))
    await log.flush()
    assert log.dropped == 1


async def test_a_refusal_is_known_before_and_after_it_was_written(tmp_path: Path) -> None:
    log = log_to(tmp_path / "a")
    tell(log, "/orders/u2", "denied", 403)
    for _ in range(2):
        found = log.find("denied")
        assert found is not None
        assert found["access"]["event.reason"] == "not_yours"
        assert found["decision"]["rule"] == "foreign"
        assert json.loads(json.dumps(found)) == found
        await log.flush()
    assert log.find("another") is None


async def test_whoever_sends_the_id_of_another_is_not_told_in_its_place(tmp_path: Path) -> None:
    log = log_to(tmp_path / "a")
    tell(log, "/orders/u2", "seen", 403)
    for flushes in (False, True, False):
        if flushes:
            await log.flush()
        log.refused(Reason.ROUTE_UNKNOWN, "", request("seen"))
    found = log.find("seen")
    assert found is not None
    assert (found["access"]["event.reason"], found["later"]) == ("not_yours", 3)


async def test_the_combined_format_is_written_where_it_is_asked_for(tmp_path: Path) -> None:
    log = log_to(tmp_path / "a", combined=True)
    tell(log, "/orders/u2", "denied", 403)
    await log.flush()
    assert (tmp_path / "a").read_text().startswith('127.0.0.1 - u1 [15/Jan/2027:08:00:00 +0000] "')


READS_BODY = snapshot(
    """
    - id: orders
      match: {path: "/orders/{id}", methods: [POST]}
      policy: p
      action: orders:write
      resource: {x: "{body.x}"}
      upstream: api
    """,
    "policy: p\nrules:\n  - {id: b, allow: ['*'], when: resource.x == 'yes'}\n",
)


def tell_with_body(to: AccessLog, text: str, request_id: str) -> None:
    asked = SimulatedRequest(
        "POST", "/orders/u1", who("u1"), body=json.loads(text), clock=FixedClock(NOW)
    )
    answer = simulate(asked, READS_BODY)
    assert not answer.decision.allowed
    to.decided(answer.call, answer.decision, 403, request_id)


async def test_bodies_that_were_judged_are_not_held(tmp_path: Path) -> None:
    log = log_to(tmp_path / "a")
    many = json.dumps({"x": "no", "y": [f"{number % 100:02d}" for number in range(13_000)]})
    tell_with_body(log, many, "first")
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    for number in range(50):
        tell_with_body(log, many, f"many{number}")
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held - before < 2_000_000  # each is 0.7 MB as objects
    for waits in (True, False):
        found = log.find("many7")
        assert found is not None
        assert found["decision"]["body"] == {"read": ["x"], "values": {"x": "no"}}, waits
        await log.flush()


async def test_long_fields_of_a_body_are_not_remembered(tmp_path: Path) -> None:
    log = log_to(tmp_path / "a")
    tell_with_body(log, json.dumps({"x": "n" * MAX_BODY_CHARACTERS}), "short")
    tell_with_body(log, json.dumps({"x": "n" * (MAX_BODY_CHARACTERS + 1)}), "long")
    await log.flush()
    short, long = log.find("short"), log.find("long")
    assert short is not None
    assert long is not None
    assert short["decision"]["body"]["values"]["x"] == "n" * MAX_BODY_CHARACTERS
    # Not as if nothing had been read: whoever judges it again is to know.
    assert "body" not in long["decision"]
    assert [line["http.request.id"] for line in lines(tmp_path / "a")] == ["short", "long"]


async def test_what_is_remembered_holds_no_credential(tmp_path: Path) -> None:
    log = log_to(tmp_path / "a")
    secret = [(b"Authorization", b"Bearer hidden-token")]
    log.refused(Reason.ROUTE_UNKNOWN, "", AnsweredRequest("r1", 404, headers=secret))
    tell(log, "/orders/u2", "denied", 403)
    await log.flush()
    for request_id in ("r1", "denied"):
        assert log.find(request_id) is not None
    assert "hidden-token" not in repr(log._remembered)
    assert "Call(" not in repr(log._remembered)
