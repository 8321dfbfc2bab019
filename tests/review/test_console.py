"""The operator's console in what tells of policies: compared, and explained."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gateway.access.snapshot import Snapshot
from gateway.cli import main
from gateway.review.console import compare_all
from tests.access.worlds import snapshot

PLAIN = "version: 1\nroutes: []\n"
NAMED = "version: 1\nconsole: {policy: console}\nroutes: []\n"
POLICY = """
version: 1
policy: console
roles:
  admin:   [admin:*]
  support: [admin:read]
rules:
  - {id: by-role, allow: role-permissions}
"""
OFFICE = (
    POLICY
    + """\
  - {id: from-the-office, deny: [admin:write], when: "!in_cidr(client.ip, '192.0.2.0/24')"}
"""
)


def world(policy: str | None) -> Snapshot:
    return snapshot(PLAIN) if policy is None else snapshot(NAMED, console=policy)


def changes(old: str | None, new: str | None) -> list[str]:
    report = compare_all(world(old), world(new))
    assert report.inexact == []
    return [str(change) for change in report.changes]


def test_a_role_that_is_let_into_the_console_gains_it() -> None:
    assert changes(None, POLICY) == [
        "support GAINS admin:read in the console (policies/console.yaml:8)"
    ]
    report = compare_all(world(None), world(POLICY))
    assert report.widened


def test_a_role_that_loses_the_console_is_told_and_so_is_where() -> None:
    assert changes(POLICY.replace("support: [admin:read]", "support: [admin:*]"), POLICY) == [
        "support LOSES admin:write in the console (policies/console.yaml:8) unless admin"
    ]
    [lost] = changes(POLICY, OFFICE)
    assert lost.startswith("admin LOSES admin:write in the console (policies/console.yaml:9) from")


def test_without_a_policy_the_role_admin_has_both() -> None:
    everybody = POLICY.replace("  - {id", "  - {id: all, allow: [admin:*]}\n  - {id")
    assert changes(everybody, None) == [
        "everyone signed in LOSES admin:read,admin:write in the console"
        " (policies/console.yaml:8) unless admin"
    ]
    assert changes(None, None) == changes(POLICY, POLICY) == []


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "policies").mkdir()
    (tmp_path / "routes.yaml").write_text(NAMED)
    (tmp_path / "policies" / "console.yaml").write_text(OFFICE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def explained(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict[str, object]]:
    code = main(["explain", "--console", *words, "--json"])
    return code, json.loads(capsys.readouterr().out)


@pytest.mark.usefixtures("folder")
def test_a_call_of_the_console_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    code, found = explained(capsys, "GET", "/admin/users", "--roles", "support")
    assert (code, found["rule"], found["line"]) == (0, "by-role", 8)
    code, found = explained(capsys, "POST", "/admin/users", "--roles", "support")
    assert (code, found["reason"], found["rule"]) == (1, "no_rule", "from-the-office")
    at_work = ("--roles", "admin", "--client-ip", "192.0.2.7")
    assert explained(capsys, "POST", "/admin/users/u-1", *at_work)[0] == 0
    assert explained(capsys, "POST", "/admin/users/u-1", "--roles", "admin")[0] == 1
    assert explained(capsys, "GET", "/admin")[1]["reason"] == "no_credential"


def test_without_console_the_role_admin_is_explained(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "routes.yaml").write_text(PLAIN)
    code, found = explained(capsys, "POST", "/admin/keys", "--roles", "admin")
    assert (code, found["rule"]) == (0, "role-admin")
    assert explained(capsys, "GET", "/admin", "--roles", "support")[0] == 1


@pytest.mark.usefixtures("folder")
def test_a_gain_of_the_console_fails_where_access_widens(
    capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    before = folder / "before"
    (before / "policies").mkdir(parents=True)
    (before / "routes.yaml").write_text(PLAIN)
    assert main(["diff", "before", ".", "--fail-on", "widen", "--json"]) == 1
    [gained, lost] = json.loads(capsys.readouterr().out)["changes"]
    assert (gained["who"], gained["console"]) == ("support", ["admin:read"])
    assert (lost["who"], lost["console"]) == ("admin", ["admin:write"])
