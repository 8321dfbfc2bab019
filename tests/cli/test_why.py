"""`gateway why`, of logs: the decision, what came nearest, the smallest change, or where it looked."""

from __future__ import annotations

import gzip
import io
import json
import os
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from gateway.access.decision_record import record_of
from gateway.access.simulation import FixedClock, SimulatedRequest, person, simulate
from gateway.cli import main
from gateway.cli.configurations import compiled
from gateway.telemetry.access_record import (
    AnsweredRequest,
    as_combined,
    as_json,
    fields_of_decision,
    fields_of_request,
)

NOW = 1_800_000_000.0
ROUTES = """
version: 1
upstreams: {api: {targets: ["http://127.0.0.1:9001"]}}
routes:
  - id: orders.read
    match: {path: "/orders/{id}", methods: [GET]}
    policy: orders
    action: orders:read
    resource: {owner: "{id}"}
    upstream: api
"""
POLICY = """
version: 1
policy: orders
rules:
  - id: own
    allow: [orders:read]
    when: resource.owner == user.id
  - id: staff
    allow: [orders:read]
    when: "'staff' in user.roles"
  - id: no-ghosts
    deny: ["*"]
    when: "'ghost' in user.roles"
    reason: is_a_ghost
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "policies").mkdir()
    (tmp_path / "routes.yaml").write_text(dedent(ROUTES))
    (tmp_path / "policies" / "orders.yaml").write_text(dedent(POLICY))
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("GATEWAY_")]:
        monkeypatch.delenv(name)
    return tmp_path


def gateway(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main(words)
    out, err = capsys.readouterr()
    return code, out, err


def record(request_id: str, url: str = "/orders/u2", *roles: str) -> dict[str, Any]:
    caller = person("u1", roles, now=NOW, email="u1@example.com")
    snapshot = compiled(Path("routes.yaml"), Path("policies"))
    answer = simulate(SimulatedRequest("GET", url, caller, clock=FixedClock(NOW)), snapshot)
    assert answer.call is not None
    return record_of(
        answer.call,
        answer.decision,
        at=NOW,
        status=200 if answer.decision.allowed else 403,
        request_id=request_id,
        version=snapshot.version,
    )


def access(request_id: str, *roles: str) -> dict[str, Any]:
    return fields_of_decision(record(request_id, "/orders/u2", *roles), (), took_s=0.001, worker=7)


def undecided(request_id: str, reason: str, status: int, path: str = "/a/../b") -> dict[str, Any]:
    request = AnsweredRequest(request_id, status, "192.0.2.1", "GET", "", path)
    return fields_of_request(request, reason, route_id="", at=NOW, worker=7)


def test_a_line_of_the_access_log_tells_the_rule_and_the_smallest_change(
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines = [as_json(access("other")), "no line of ours", as_json(access("mine"))]
    Path("access.log").write_text("\n".join(lines) + "\n")
    code, out, err = gateway(capsys, "why", "mine", "--log", "access.log")
    assert code == 0
    assert "REFUSED  403  no_rule" in out
    assert "GET /orders/u2 on localhost by u1 from 127.0.0.1" in out
    assert "worker 7; found in access.log" in out
    assert "nearest was rule own at policies/orders.yaml:5" in out
    assert "the caller had the role staff  (staff, policies/orders.yaml:8)" in out
    assert "No rule of the policy allows this call." in out
    assert "`gateway why mine`" in out
    assert "holds no query, field, body or mail address" in err


def test_a_rule_of_the_policy_is_named_with_its_file_and_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("access.log").write_text(as_json(access("mine", "ghost")))
    code, out, _ = gateway(capsys, "why", "mine", "--log", "access.log")
    assert code == 0
    assert "rule    no-ghosts of policy orders  policies/orders.yaml:11" in out
    assert "is_a_ghost" in out
    assert "A rule of the policy refuses this call" in out


def test_the_decision_log_is_read_first_as_it_holds_all_that_was_read(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("both").write_text(as_json(access("mine")) + "\n" + json.dumps(record("mine")) + "\n")
    code, out, err = gateway(capsys, "why", "mine", "--log", "both", "--json")
    told = json.loads(out)
    assert (code, err) == (0, "")
    assert (told["decision"], told["status"], told["reason"]) == ("deny", 403, "no_rule")
    assert (told["route"], told["policy"], told["path"]) == ("orders.read", "orders", "/orders/u2")
    assert told["meaning"]["happened"] == "No rule of the policy allows this call."
    assert told["again"]["nothing_allowed"] is True
    assert {"the caller had the role staff"} <= {flip["change"] for flip in told["again"]["flips"]}
    assert told["notes"] == []


def test_what_never_came_to_a_decision_is_told_with_what_it_means(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("access.log").write_text(
        as_json(undecided("early", "ambiguous_path", 400))
        + "\n"
        + as_combined(undecided("late", "upstream_timeout", 504, "/slow"))
        + "\n"
    )
    code, out, _ = gateway(capsys, "why", "early", "--log", "access.log")
    assert code == 0
    assert "REFUSED  400  ambiguous_path" in out
    assert "Two parties could read such a path in two ways (paths)" in out
    assert "judged again" not in out
    code, out, _ = gateway(capsys, "why", "late", "--log", "access.log")
    assert code == 0
    assert "REFUSED  504  upstream_timeout" in out
    assert "GET /slow from 192.0.2.1" in out
    assert "Mend the backend" in out


def test_a_log_is_read_from_standard_input_and_from_what_was_compressed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    line = b"Jan 15 host authgate[7]: " + as_json(access("mine")).encode() + b"\n"
    stdin = io.TextIOWrapper(io.BytesIO(line))
    monkeypatch.setattr("sys.stdin", stdin)
    assert "standard input" in gateway(capsys, "why", "mine", "--log", "-")[1]
    Path("access.log.1.gz").write_bytes(gzip.compress(line))
    assert "no_rule" in gateway(capsys, "why", "mine", "--log", "access.log.1.gz")[1]


def test_an_id_that_is_nowhere_is_exit_1_and_where_it_was_looked_for(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("access.log").write_text(as_json(access("another")))
    code, out, err = gateway(capsys, "why", "mine", "--log", "access.log")
    assert (code, out) == (1, "")
    assert "mine is nowhere" in err
    assert "looked: access.log" in err
    code, _, err = gateway(capsys, "why", "mine")
    assert code == 1
    assert "no gateway runs on the data folder" in err
    assert "there is no decision log" in err
    assert "gateway why mine --log -" in err
    monkeypatch.setenv("GATEWAY_ACCESS_LOG_FILE", "access.log")
    code, out, err = gateway(capsys, "why", "mine", "--json")
    assert code == 1
    assert json.loads(out)["looked"][-1].endswith("access.log")
    assert gateway(capsys, "why", "another")[0] == 0


def test_files_that_were_moved_away_are_looked_through(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATEWAY_ACCESS_LOG_FILE", "access.log")
    Path("access.log.1").write_text(as_json(access("mine")) + "\n")
    code, out, _ = gateway(capsys, "why", "mine")
    assert code == 0
    assert "found in access.log.1" in out


def test_an_edit_since_then_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    Path("log.jsonl").write_text(json.dumps(record("mine")) + "\n")
    policy = Path("policies/orders.yaml")
    policy.write_text(policy.read_text().replace("resource.owner == user.id", "true"))
    code, out, err = gateway(capsys, "why", "mine", "--log", "log.jsonl")
    assert code == 0
    assert "REFUSED  403  no_rule" in out
    assert "the configuration has changed since" in err
    assert "judged again, it would be allowed" in err


def test_what_depends_on_a_claim_is_not_known_and_no_answer(
    capsys: pytest.CaptureFixture[str],
) -> None:
    policy = Path("policies/orders.yaml")
    policy.write_text(
        policy.read_text().replace("resource.owner == user.id", "user.claims.level > 3")
    )
    Path("log.jsonl").write_text(json.dumps(record("mine")) + "\n")
    code, out, err = gateway(capsys, "why", "mine", "--log", "log.jsonl")
    assert code == 0
    assert "NOT KNOWN" in out
    assert "allow  own  not known, as it reads user.claims.level  policies/orders.yaml:5" in out
    assert "allow  staff  policies/orders.yaml:8" in out
    assert "DENIED" not in out
    assert "it would be" not in out + err.replace("how it would be", "")
    assert "the log does not hold user.claims.level" in err
    code, out, _ = gateway(capsys, "why", "mine", "--log", "log.jsonl", "--json")
    assert json.loads(out)["again"] is None
    for fail_on in ("widen", "change"):
        words = ("replay", "log.jsonl", "--against", ".", "--fail-on", fail_on)
        code, out, err = gateway(capsys, *words)
        assert code == 0
        assert "0 the same, 0 gain, 0 lose, 0 for another reason" in out
        assert "1 could not be judged: the user.claims.level was not recorded" in err


def test_explain_guesses_no_more_than_why_does(capsys: pytest.CaptureFixture[str]) -> None:
    policy = Path("policies/orders.yaml")
    rule = policy.read_text().replace("resource.owner == user.id", "user.claims.level > 3")
    policy.write_text(rule)
    # Allowed by a claim, of which the log says nothing.
    allowed = {**record("mine"), "decision": "allow", "reason": "rule", "rule": "own"}
    Path("log.jsonl").write_text(json.dumps(allowed) + "\n")
    words = ("explain", "--request-id", "mine", "--log", "log.jsonl")
    code, out, err = gateway(capsys, *words)
    assert code == 1
    assert out.startswith("NOT KNOWN")
    assert "allow  own  not known, as it reads user.claims.level  policies/orders.yaml:5" in out
    assert "DENIED" not in out
    assert "change" not in out
    assert "it was allowed" in err
    assert "the log does not hold user.claims.level" in err
    code, out, _ = gateway(capsys, *words, "--json")
    told = json.loads(out)
    assert (code, told["decision"], told["unknown"]) == (1, "unknown", ["user.claims.level"])
    assert (told["route"], told["policy"]) == ("orders.read", "orders")
    assert {told[name] for name in ("status", "reason", "rule", "file", "line")} == {None}


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda: Path("routes.yaml").unlink(), "not judged again, as there is no routes.yaml here"),
        (lambda: Path("routes.yaml").write_text("version: 9"), "the configuration is not valid"),
    ],
)
def test_without_a_configuration_what_was_written_is_told(
    capsys: pytest.CaptureFixture[str], spoil: Any, said: str
) -> None:
    Path("log.jsonl").write_text(json.dumps(record("mine", "/orders/u2", "ghost")) + "\n")
    spoil()
    code, out, err = gateway(capsys, "why", "mine", "--log", "log.jsonl")
    assert code == 0
    assert "no-ghosts of policy orders  policies/orders.yaml:11" in out
    assert said in err


def test_what_was_allowed_is_told_as_well(capsys: pytest.CaptureFixture[str]) -> None:
    Path("log.jsonl").write_text(json.dumps(record("mine", "/orders/u1")) + "\n")
    code, out, _ = gateway(capsys, "why", "mine", "--log", "log.jsonl")
    assert code == 0
    assert "ALLOWED  200" in out
    assert "what happened" not in out


@pytest.mark.parametrize("words", [("a b",), ("",), ("x" * 300,), ("mine", "--log", "/nope")])
def test_wrong_usage_is_exit_2(capsys: pytest.CaptureFixture[str], words: tuple[str, ...]) -> None:
    assert gateway(capsys, "why", *words)[0] == 2


def test_the_page_of_the_reason_is_named_where_there_is_one(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("log.jsonl").write_text(json.dumps(record("mine")) + "\n")
    monkeypatch.setenv("GATEWAY_REASONS_URL", "https://docs.example.com/{reason}.html")
    code, out, _ = gateway(capsys, "why", "mine", "--log", "log.jsonl")
    assert code == 0
    assert "https://docs.example.com/no_rule.html" in out
