"""`gateway explain` asked with all that a condition can read."""

from __future__ import annotations

import io
import json
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from gateway.cli import main

ROUTES = """
version: 1
upstreams: {api: {targets: ["http://127.0.0.1:9001"]}}
routes:
  - id: things
    match: {path: "/things/{id}", methods: [POST]}
    policy: things
    action: things:write
    accept: [ACCEPT]
    resource: {owner: "{id}", lead: "{body.lead}"}
    upstream: api
"""
POLICY = """
version: 1
policy: things
rules:
  - id: only
    allow: [things:write]
    when: "WHEN"
"""
STEP_UP = "    step_up: STEP_UP\n"


@pytest.fixture
def asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Any:
    """Asks of a policy with one condition; gives the exit code and the data."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "policies").mkdir()

    def ask(
        when: str, *words: str, step_up: str = "", accept: str = "bearer, cookie, api_key"
    ) -> tuple[int, dict[str, Any]]:
        policy = dedent(POLICY).replace("WHEN", when)
        policy += STEP_UP.replace("STEP_UP", step_up) if step_up else ""
        (tmp_path / "routes.yaml").write_text(dedent(ROUTES).replace("ACCEPT", accept))
        (tmp_path / "policies" / "things.yaml").write_text(policy)
        code = main(("explain", "POST", "/things/u1?page=2", *words, "--json"))
        return code, json.loads(capsys.readouterr().out)

    return ask


@pytest.mark.parametrize(
    ("when", "good", "bad"),
    [
        ("now.getHours() < 9", ["--at", "2026-01-05T08:00:00Z"], ["--at", "2026-01-05T09:00:00Z"]),
        ("now < timestamp('2026-02-01T00:00:00Z')", ["--at", "2026-01-05T08:00:00+01:00"], []),
        ("now - user.auth_time < duration('5m')", ["--auth-age", "4m"], ["--auth-age", "6m"]),
        (
            "now - user.auth_time < duration('5m')",
            ["--at", "2026-01-05T08:04:00Z", "--auth-time", "2026-01-05T08:00:00Z"],
            ["--at", "2026-01-05T08:06:00Z", "--auth-time", "2026-01-05T08:00:00Z"],
        ),
        ("has_scope('things:write')", ["--scopes", "things:*"], ["--scopes", "other:*"]),
        ("user.claims.tier == 'gold'", ["--claim", "tier=gold"], ["--claim", "tier=tin"]),
        ("user.claims.level >= 3", ["--claim", "level=3"], ["--claim", 'level="3"']),
        ("'a' in user.claims.groups", ["--claim", 'groups=["a"]'], ["--claim", "groups=[]"]),
        (
            "user.claims.a == 1 && user.claims.b == 'x=y'",
            ["--claim", "a=1", "--claim", "b=x=y"],
            ["--claim", "a=1"],
        ),
        ("user.email_verified", ["--verified"], ["--unverified"]),
        (
            "user.email_verified",
            ["--email", "a@b.example", "--verified"],
            ["--email", "a@b.example", "--unverified"],
        ),
        ("user.email == 'a@b.example'", ["--email", "a@b.example"], []),
        ("user.session_id == 's1'", ["--session-id", "s1"], ["--session-id", "s2"]),
        ("request.query.page == '2'", [], None),
        ("user.roles.exists(r, r == 'x')", ["--roles", "y,x"], ["--roles", "y"]),
    ],
)  # fmt: skip
def test_each_thing_that_a_condition_reads_can_be_asked_for(
    asked: Any, when: str, good: list[str], bad: list[str] | None
) -> None:
    caller = ["--user-id", "u1"]
    assert asked(when, *caller, *good)[0] == 0
    if bad is not None:
        assert asked(when, *caller, *bad)[0] == 1


def test_the_methods_of_a_sign_in_can_be_asked_for(asked: Any) -> None:
    step_up = "{amr: [totp], max_age: 5m}"
    assert asked("true", "--amr", "pwd,totp", step_up=step_up)[0] == 0
    assert asked("true", "--amr", "pwd", step_up=step_up)[1]["status"] == 401
    assert asked("true", "--amr", "totp", "--auth-age", "6m", step_up=step_up)[1]["status"] == 401


def test_the_kind_of_the_credential_can_be_asked_for(asked: Any) -> None:
    assert asked("true", "--with", "api_key", accept="api_key")[0] == 0
    assert asked("true", "--with", "bearer", accept="api_key")[1]["reason"] == "no_credential"


def test_a_value_that_a_backend_takes_for_one_that_is_kept_away_is_told(asked: Any) -> None:
    code, found = asked("request.query.page != '02'", "--user-id", "u1")
    assert (code, found["status"], found["reason"]) == (1, 400, "ambiguous_query")


def test_a_body_is_read_from_a_file_or_from_standard_input(
    asked: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Input:
        buffer = io.BytesIO(b'{"lead": "anna"}')

    (tmp_path / "body.json").write_text('{"lead": "anna"}')
    when = "resource.lead == 'anna'"
    assert asked(when, "--user-id", "u1", "--body", "body.json")[0] == 0
    monkeypatch.setattr("sys.stdin", Input())
    assert asked(when, "--user-id", "u1", "--body", "-")[0] == 0


@pytest.mark.parametrize("body", ["null", "[]", '"text"'])
def test_a_body_that_is_no_object_is_refused_as_by_the_gateway(
    asked: Any, tmp_path: Path, body: str
) -> None:
    (tmp_path / "body.json").write_text(body)
    code, found = asked("!has(resource.lead)", "--user-id", "u1", "--body", "body.json")
    assert (code, found["reason"]) == (1, "body_malformed")


def test_any_word_about_the_caller_makes_one_up(asked: Any) -> None:
    code, found = asked("user.claims.tier == 'gold'", "--claim", "tier=gold")
    assert (code, found["caller"]) == (0, "someone, roles: none, from 127.0.0.1")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--at", "yesterday"], "--at: 'yesterday' is no time such as 2026-01-05T09:00:00Z"),
        (["--at", "2026-01-05T09:00:00"], "is no time such as"),
        (["--auth-age", "soon"], "--auth-age: 'soon' is no time such as 90s, 20m or 8h"),
        (["--auth-age", "1m", "--auth-time", "2026-01-05T09:00:00Z"], "one of --auth-age and --auth-time"),
        (["--claim", "tier"], "--claim takes NAME=VALUE"),
        (["--claim", "=x"], "--claim takes NAME=VALUE"),
        (["--user-id", "a b"], "can be no id"),
        (["--scopes", "no such"], "'no such' is no action"),
        (["--token-file", "t", "--claim", "a=b"], "a token says by itself"),
        (["--request-id", "x", "--at", "2026-01-05T09:00:00Z"], "a recorded call says by itself"),
        (["--as", "a@b.example", "--roles", "x"], "one of --as, --token-file"),
    ],
)  # fmt: skip
def test_a_slip_about_the_caller_is_named(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["explain", "GET", "/a", *words]) == 2
    assert said in capsys.readouterr().err
