"""`gateway validate`, `explain` and `test`, as an operator runs them."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from gateway.access.decision_record import record_of
from gateway.access.simulation import SimulatedRequest, person, simulate
from gateway.access.snapshot import Snapshot
from gateway.cli import main
from gateway.cli.configurations import compiled_from
from gateway.cli.policy_validate import edits
from gateway.config.compile import Sources, compile_snapshot

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
    reason: not_yours
  - id: hidden
    deny: ["*"]
    when: "'ghost' in user.roles"
    conceal: true
"""
TESTS = """
version: 1
people: {anna: {id: u1}}
cases:
  - name: anna reads her own
    as: anna
    request: GET /orders/u1
    expect: allow
  - name: and nobody else's
    as: anna
    request: GET /orders/u2
    expect: {status: 403, reason: not_yours, rule: own, route: orders.read}
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "policies" / "tests").mkdir(parents=True)
    (tmp_path / "routes.yaml").write_text(dedent(ROUTES))
    (tmp_path / "policies" / "orders.yaml").write_text(dedent(POLICY))
    (tmp_path / "policies" / "tests" / "orders.yaml").write_text(dedent(TESTS))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def gateway(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main(words)
    out, err = capsys.readouterr()
    return code, out, err


@pytest.fixture
def installation(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What the commands look for that ask of accounts and keys."""
    assert main(["db", "upgrade"]) == 0
    capsys.readouterr()


def as_json(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, Any]:
    code, out, _ = gateway(capsys, *words, "--json")
    return code, json.loads(out)


def test_a_valid_configuration_is_told_so(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = gateway(capsys, "validate")
    assert code == 0
    assert out.startswith("valid: 1 route, 1 policy, version ")


def test_every_problem_is_one_line_that_editors_click(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (folder / "routes.yaml").read_text()
    (folder / "routes.yaml").write_text(text.replace("upstream: api", "upstream: aip"))
    code, out, err = gateway(capsys, "validate")
    assert code == 1
    assert out == "routes.yaml:10:15: unknown upstream `aip`; did you mean `api`?\n"
    assert "1 problem" in err
    code, found = as_json(capsys, "validate")
    assert (code, found["valid"], found["problems"][0]["line"]) == (1, False, 10)


def test_a_mistake_in_the_folder_of_the_pages_is_a_problem_too(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "pages").mkdir()
    (folder / "pages" / "theme.yaml").write_text("light:\n  accent: red\n")
    code, out, _ = gateway(capsys, "validate")
    assert code == 1
    assert out == 'pages/theme.yaml:2:11: `accent` is a colour such as "#1d4ed8", in quotes\n'


def test_an_issuer_that_is_this_gateway_is_a_problem_by_the_settings(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    routes = folder / "routes.yaml"
    block = "issuers: {idp: {issuer: https://gw.example.com, audience: a}}\n"
    routes.write_text(routes.read_text() + block)
    assert gateway(capsys, "validate")[0] == 0
    monkeypatch.setenv("GATEWAY_ISSUER", "https://gw.example.com")
    code, out, _ = gateway(capsys, "validate")
    assert code == 1
    assert "`https://gw.example.com` is this gateway itself (GATEWAY_ISSUER)" in out


def test_an_action_that_no_route_has_is_a_warning_apart_and_no_failure(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policy = folder / "policies" / "orders.yaml"
    policy.write_text(policy.read_text().replace("allow: [", "allow: [orders:raed, ", 1))
    code, out, err = gateway(capsys, "validate")
    assert code == 0
    assert out.startswith("valid: ")
    assert "warning: policies/orders.yaml:5:" in err
    assert "no route has the action `orders:raed`; did you mean `orders:read`?" in err
    code, found = as_json(capsys, "validate")
    assert (code, found["valid"], found["problems"]) == (0, True, [])
    assert found["notices"][0]["line"] == 5


def test_whoever_wants_no_warning_is_told_by_the_exit_code(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert gateway(capsys, "validate", "--strict")[0] == 0
    policy = folder / "policies" / "orders.yaml"
    policy.write_text(policy.read_text().replace("allow: [", "allow: [orders:raed, ", 1))
    code, out, err = gateway(capsys, "validate", "--strict")
    assert (code, out.partition(" ")[0]) == (1, "valid:")
    assert "`orders:raed`" in err
    assert as_json(capsys, "validate", "--strict")[0] == 1


def test_a_file_that_is_not_read_is_noted(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "policies" / "more.yml").write_text("version: 1")
    code, _, err = gateway(capsys, "validate")
    assert code == 0
    assert "policies/more.yml is not read: its name must end with .yaml" in err


def test_a_missing_file_is_a_problem_and_no_traceback(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = gateway(capsys, "validate", "--config", "nope.yaml")
    assert code == 1
    assert out == "nope.yaml:1:1: cannot be read: No such file or directory\n"


def test_explain_answers_with_the_line_that_decided(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = gateway(capsys, "explain", "GET", "/orders/u2", "--user-id", "u1")
    assert code == 1
    assert out.startswith(
        "DENIED  403  denied with not_yours: nothing allowed it; nearest was rule own at "
        "policies/orders.yaml:5\n"
    )
    assert 'resource.owner = "u2"' in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["G T", "/orders/u1"], "is no method"),
        (["", "/orders/u1"], "is no method"),
        (["GET", "orders/u1"], "a path begins with /"),
        (["GET", "/orders/u1", "--roles", "a b"], "can be no role"),
        (["GET", "/orders/u1", "--policies", "/nope"], "/nope:1:1: there is no such folder"),
        (["--request-id", "x"], "there is no decision log"),
        (["--request-id", "x", "--log", "/nope"], "there is no decision log /nope"),
    ],
)
def test_a_slip_in_the_words_of_explain_is_named(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["explain", *words]) == (1 if "--policies" in words else 2)
    assert said in capsys.readouterr().err


def test_the_caller_that_was_asked_for_is_shown_where_no_route_looked_at_them(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["explain", "PUT", "/orders/u1", "--user-id", "u1", "--roles", "a"]) == 1
    assert "caller  u1, roles: a, from 127.0.0.1 (not looked at: no route)" in (
        capsys.readouterr().out
    )


def test_explain_tells_what_would_lift_a_rule_that_conceals(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lifted = POLICY.replace("    conceal: true", "    step_up: {amr: [otp]}\n    conceal: true")
    (folder / "policies" / "orders.yaml").write_text(dedent(lifted))
    words = "explain", "GET", "/orders/u1", "--user-id", "u1", "--roles", "ghost"
    code, out, _ = gateway(capsys, *words)
    assert code == 1
    assert "DENIED  404  denied with no_rule by rule hidden at policies/orders.yaml:9" in out
    assert "the client sees 404, as for an unknown route" in out
    assert "asks for a fresher or stronger sign-in" in out
    assert "otp" in out


def test_explain_as_json_has_the_keys_of_the_contract(capsys: pytest.CaptureFixture[str]) -> None:
    code, found = as_json(capsys, "explain", "GET", "/orders/u1", "--user-id", "u1")
    assert code == 0
    wanted = {
        "decision": "allow", "status": 200, "reason": "rule_allowed", "route": "orders.read",
        "policy": "orders", "rule": "own", "file": "policies/orders.yaml", "line": 5,
    }  # fmt: skip
    assert {name: found[name] for name in wanted} == wanted


@pytest.mark.parametrize(
    ("words", "status", "reason"),
    [
        (["GET", "/orders/u1"], 401, "no_credential"),
        (["GET", "/nothing"], 404, "route_unknown"),
        (["PUT", "/orders/u1"], 405, "method_not_allowed"),
        (["GET", "/orders/../x"], 400, "ambiguous_path"),
        (["TRACE", "/orders/u1", "--user-id", "u1"], 405, "method_not_allowed"),
        (["GET", "/orders/u1", "--user-id", "u1", "--roles", "ghost"], 404, "no_rule"),
        (["GET", "http://h:80/orders/u2", "--roles", "a,b"], 403, "not_yours"),
    ],
)
def test_explain_tells_the_status_that_a_client_would_see(
    words: list[str], status: int, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, found = as_json(capsys, "explain", *words)
    assert (code, found["status"], found["reason"]) == (1, status, reason)


@pytest.mark.parametrize(
    "words",
    [
        ["GET", "/a", "--header", "nonsense"],
        ["GET", "/a", "--client-ip", "nonsense"],
        ["GET", "/a", "--as", "a@b.example", "--user-id", "u"],
        ["GET", "/a", "--token-file", "nowhere"],
        ["GET"],
    ],
)
def test_wrong_usage_is_exit_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = gateway(capsys, "explain", *words)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")


def test_passing_tests_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    assert gateway(capsys, "test")[:2] == (0, "2 passed, 0 failed\n")


def test_a_failing_test_shows_its_line_what_was_expected_and_why(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = folder / "policies" / "tests" / "orders.yaml"
    file.write_text(file.read_text().replace("expect: allow", "expect: deny"))
    code, out, _ = gateway(capsys, "test")
    assert code == 1
    assert "policies/tests/orders.yaml:5: FAILED anna reads her own" in out
    assert "decision: expected deny, got allow" in out
    assert "allowed by rule own at policies/orders.yaml:5" in out
    assert "1 passed, 1 failed" in out


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("as: anna", "as: ana", ":6:9: `people` has nobody named `ana`; did you mean `anna`?"),
        ("rule: own", "rule: onw", "unknown rule `onw`; did you mean `own`?"),
        ("reason: not_yours", "reason: not_your", "no rule gives the reason `not_your`"),
        ("request: GET", "request: get", "a request is `METHOD /path`"),
        ("expect: allow", "expct: allow", "did you mean `expect`?"),
    ],
)
def test_a_typo_in_a_test_is_a_problem_with_its_place(
    folder: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, said: str
) -> None:
    file = folder / "policies" / "tests" / "orders.yaml"
    file.write_text(file.read_text().replace(old, new, 1))
    code, _, err = gateway(capsys, "test")
    assert code == 1
    assert said in err


@pytest.mark.usefixtures("installation")
def test_an_account_of_the_installation_is_explained(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, made = as_json(capsys, "users", "create", "anna@example.com", "--verified")
    assert code == 0
    identity = made["user_id"] if "user_id" in made else made["id"]
    code, found = as_json(
        capsys, "explain", "GET", f"/orders/{identity}", "--as", "anna@example.com"
    )
    assert (code, found["rule"]) == (0, "own")
    assert "anna@example.com" in found["caller"]


@pytest.mark.usefixtures("installation")
def test_an_unknown_account_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = gateway(capsys, "explain", "GET", "/a", "--as", "nobody@example.com")
    assert code == 1
    assert "no account" in err


@pytest.mark.usefixtures("installation")
def test_a_token_is_verified_for_real(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "token").write_text("Bearer not.a.token\n")
    code, found = as_json(capsys, "explain", "GET", "/orders/u1", "--token-file", "token")
    assert (code, found["status"], found["reason"]) == (1, 401, "token_malformed")


def test_an_edit_is_noticed_and_checked_again(folder: Path) -> None:
    noticed = edits(Path("routes.yaml"), Path("policies"))
    next(noticed)
    done = threading.Event()

    def keep_writing() -> None:
        # The watch begins at some moment after `next` below is called.
        while not done.wait(0.05):
            (folder / "policies" / "orders.yaml").write_text(dedent(POLICY))

    writer = threading.Thread(target=keep_writing)
    writer.start()
    try:
        next(noticed)
    finally:
        done.set()
        writer.join()


def test_a_reload_is_checked_where_no_gateway_runs(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    free_port: Callable[[], int],
) -> None:
    monkeypatch.setenv("GATEWAY_ADMIN_LISTEN", f"127.0.0.1:{free_port()}")
    code, found = as_json(capsys, "reload", "--check")
    assert (code, found["valid"], found["running"]) == (0, True, None)


def test_a_difference_is_told_and_fails_where_access_widens(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = folder / "other"
    (other / "policies").mkdir(parents=True)
    (other / "routes.yaml").write_text(dedent(ROUTES))
    (other / "policies" / "orders.yaml").write_text(
        dedent(POLICY) + "  - {id: lead, allow: ['*'], when: has_role('lead')}\n"
    )
    code, out, _ = gateway(capsys, "diff", ".", "other")
    assert code == 0
    assert out.splitlines() == [
        "lead GAINS GET /orders/{id} (other/policies/orders.yaml:13)",
        "1 gained, 0 lost",
    ]
    assert gateway(capsys, "diff", ".", "other", "--fail-on", "widen")[0] == 1
    assert gateway(capsys, "diff", "other", ".", "--fail-on", "widen")[0] == 0
    assert gateway(capsys, "diff", "other", ".", "--fail-on", "change")[0] == 1


def test_a_git_revision_is_compared_with_the_files(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.com"]
    for words in (["init", "-q"], ["add", "."], [*identity, "commit", "-q", "-m", "one"]):
        subprocess.run(["git", *words], check=True, cwd=folder)
    file = folder / "policies" / "orders.yaml"
    file.write_text(file.read_text().replace("resource.owner == user.id", "has_role('lead')"))
    code, found = as_json(capsys, "diff", "HEAD")
    assert code == 0
    assert {(one["who"], one["change"]) for one in found["changes"]} == {
        ("everyone signed in as {id}", "loses"),
        ("lead", "gains"),
    }
    # What tokens name as their resource begins with it.
    monkeypatch.setenv("GATEWAY_PUBLIC_URL", "https://gate.example")
    for where in ("HEAD", "."):
        found = compiled_from(where, Path("routes.yaml"), Path("policies"))
        assert found.public_url == "https://gate.example"


def test_a_configuration_below_the_folder_is_compared_with_another(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("here/conf", "other"):
        (folder / name / "policies").mkdir(parents=True)
        (folder / name / "routes.yaml").write_text(dedent(ROUTES))
    (folder / "here" / "conf" / "policies" / "orders.yaml").write_text(dedent(POLICY))
    (folder / "other" / "policies" / "orders.yaml").write_text(
        dedent(POLICY) + "  - {id: lead, allow: ['*'], when: has_role('lead')}\n"
    )
    where = ("--config", "conf/routes.yaml", "--policies", "conf/policies")
    code, out, _ = gateway(capsys, "diff", "here", "other", *where)
    assert (code, out.splitlines()[-1]) == (0, "1 gained, 0 lost")


@pytest.mark.parametrize("revision", ["nowhere", "-x", "HEAD~99"])
def test_what_is_neither_folder_nor_revision_is_wrong_usage(
    revision: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = gateway(capsys, "diff", "--", revision)
    assert code in (1, 2)
    assert err.startswith("error: ")


def test_a_revision_that_git_does_not_know_is_named(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    code, _, err = gateway(capsys, "diff", "nowhere")
    assert (code, err) == (2, "error: nowhere is neither a folder nor a git revision\n")


def test_a_recorded_decision_is_replayed_and_explained(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world = compile_snapshot(
        Sources(("routes.yaml", dedent(ROUTES)), (("policies/orders.yaml", dedent(POLICY)),))
    )
    assert isinstance(world, Snapshot)
    answer = simulate(SimulatedRequest("GET", "/orders/u1", person("u1", now=1e9)), world)
    assert answer.call is not None
    line = record_of(
        answer.call, answer.decision, at=1e9, status=200, request_id="req-7", version="abc"
    )
    (folder / "log.jsonl").write_text(json.dumps(line) + "\n")
    file = folder / "policies" / "orders.yaml"
    file.write_text(file.read_text().replace("resource.owner == user.id", "has_role('lead')"))
    code, found = as_json(capsys, "replay", "log.jsonl", "--against", ".")
    assert (code, found["total"], found["loses"]) == (0, 1, 1)
    assert found["changes"][0]["examples"][0]["line"] == 5
    assert gateway(capsys, "replay", "log.jsonl", "--against", ".", "--fail-on", "change")[0] == 1
    code, out, err = gateway(capsys, "explain", "--request-id", "req-7", "--log", "log.jsonl")
    assert code == 1
    assert "by version abc, it was allowed" in err
    assert "not_yours" in out


def test_the_schemas_are_written_for_an_editor(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = gateway(capsys, "export", "schema", "schemas")
    assert code == 0
    assert "# yaml-language-server: $schema=schemas/policy.json" in out
    assert json.loads((folder / "schemas" / "routes.json").read_text())["title"] == "routes.yaml"


def test_a_certificate_that_is_not_here_is_a_problem_unless_only_the_texts_are_asked_for(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lost = folder / "lost.pem"
    far = f'upstreams: {{far: {{targets: ["https://far.example"], tls: {{ca: {lost}}}}}}}\n'
    one = "routes: [{id: one, match: {path: /}, auth: public, upstream: far}]\n"
    (folder / "routes.yaml").write_text("version: 1\n" + far + one)
    assert main(["validate"]) == 1
    assert f"`{lost}` cannot be read" in capsys.readouterr().out
    assert main(["validate", "--texts-only"]) == 0
    assert main(["explain", "GET", "/"]) == 0
    assert "lost.pem" not in capsys.readouterr().out
