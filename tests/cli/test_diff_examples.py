"""`gateway diff` of every example against edited copies of itself."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.cli import main

ROOT = Path(__file__).parent.parent.parent
EXAMPLES = [
    ROOT / "examples" / "saas", ROOT / "examples" / "shop", ROOT / "examples" / "internal-tools", ROOT,
]  # fmt: skip

TENANTS = "policies/data/tenants.yaml"
API = "api.example.com/tenants/{tenant}"
EDITS = [
    # (example, file, what stands there, what is written instead, what is told, exit code)
    ("saas", TENANTS, "[ann, bob]", "[ann, bob, mallory]", [
        f'everyone signed in GAINS GET {API}/projects @ where user.id is "mallory" and {{tenant}} is "acme"',
        f'everyone signed in GAINS POST {API}/projects @ where body.lead is "mallory" and {{tenant}} is "acme"'
        " and `user.id in data.tenants[resource.tenant].members` is true",
        f'everyone signed in GAINS POST {API}/projects @ where user.id is "mallory" and {{tenant}} is "acme"'
        " and `resource.lead in data.tenants[resource.tenant].members` is true",
    ], 1),
    ("saas", TENANTS, "admins: [tim]", "admins: [tim, max]", [
        f"everyone signed in with a fresh sign-in GAINS DELETE {API}/projects/{{project:uuid}} @"
        ' where user.id is "max" and {tenant} is "tiny"',
    ], 1),
    ("saas", TENANTS, "plan: free", "plan: business", [
        f'everyone signed in GAINS POST {API}/exports @ where {{tenant}} is "tiny"'
        " and `user.id in data.tenants[resource.tenant].admins` is true",
    ], 1),
    ("saas", "policies/platform.yaml", "10.0.0.0/8", "10.0.0.0/9", [
        "engineer with a fresh sign-in LOSES GET admin.example.com/tenants/{rest:path} @"
        " from 10.128.0.0/9",
    ], 0),
    ("saas", "policies/platform.yaml", "10.0.0.0/8", "10.0.0.0/7", [
        "engineer with a fresh sign-in GAINS GET admin.example.com/tenants/{rest:path} @"
        " from 11.0.0.0/8",
    ], 1),
    ("internal-tools", "policies/data/duty.yaml", "[omar]", "[omar, eve]", [
        "staff with a fresh sign-in GAINS POST /deploys/{service} @ from 10.0.0.0/8,"
        ' 127.0.0.0/8 where user.id is "eve" and {service} is "search" and `now.getHours() >= 8` is true and'
        " `now.getHours() < 17` is true",
    ], 1),
    ("internal-tools", "policies/payroll.yaml", "15m", "30m", [
        "accountant with a sign-in of the last 1800 s and without a sign-in of the last 900 s"
        " GAINS any method /payroll/** @",
    ], 1),
    ("internal-tools", "policies/tools.yaml", "    mode: shadow\n", "", [
        "(sre or staff)+intern LOSES GET /deploys/{service} @ from 10.0.0.0/8, 127.0.0.0/8",
    ], 0),
    ("shop", "policies/roles.yaml", "support: [orders:read]", "support: [orders:read, orders:refund]", [
        "support with a fresh sign-in GAINS POST"
        " /customers/{customer}/orders/{order:int}/refund @",
    ], 1),
    ("shop", "routes.yaml", '"/stock/{item}", methods: [GET]', '"/stock/{item}", methods: [GET, DELETE]', [
        "manager or warehouse GAINS DELETE /stock/{item} @",
    ], 1),
    ("shop", "routes.yaml", "    policy: stock\n    action: stock:read\n", "    auth: public\n", [
        "everyone GAINS GET /stock/{item} @",
    ], 1),
]  # fmt: skip


def copied(example: Path, to: Path) -> Path:
    shutil.copytree(example / "policies", to / "policies")
    shutil.copy(example / "routes.yaml", to)
    return to


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_an_example_does_not_differ_from_a_copy(
    example: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["diff", str(example), str(copied(example, tmp_path)), "--fail-on", "change"]
    assert main(words) == 0
    assert capsys.readouterr().out == "0 gained, 0 lost\n"


@pytest.mark.parametrize(("example", "file", "old", "new", "lines", "code"), EDITS)
def test_an_edit_of_an_example_is_told_once(
    example: str,
    file: str,
    old: str,
    new: str,
    lines: list[str],
    code: int,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = ROOT / "examples" / example
    edited = copied(before, tmp_path) / file
    text = edited.read_text()
    assert old in text
    edited.write_text(text.replace(old, new, 1))
    assert main(["diff", str(before), str(tmp_path), "--fail-on", "widen"]) == code
    *told, _ = capsys.readouterr().out.splitlines()
    assert [without_place(line) for line in told] == lines


def without_place(line: str) -> str:
    start, end = line.index(" (" + ("/")), line.index(")", line.index(".yaml:"))
    return line[:start] + " @" + line[end + 1 :]


def test_a_policy_that_reads_data_is_compared_by_the_command_itself(tmp_path: Path) -> None:
    example = copied(ROOT / "examples" / "saas", tmp_path / "new")
    (example / TENANTS).write_text(
        (example / TENANTS).read_text().replace("[tim]", "[tim, eve]", 1)
    )
    done = subprocess.run(
        [sys.executable, "-m", "gateway", "diff", str(ROOT / "examples" / "saas"), str(example),
         "--fail-on", "widen", "--json"],
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert '"user.id": "eve"' in done.stdout


def test_a_folder_without_policies_of_its_own_is_a_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As the first one of the page on issuers is."""
    block = '{issuer: "https://id.example.com", audience: shop}'
    for name, issuers in (("old", "[own]"), ("new", "[own, company]")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "routes.yaml").write_text(
            f"version: 1\nissuers: {{company: {block}}}\n"
            f"routes: [{{id: a, match: {{path: /a}}, issuers: {issuers}, policy: signed-in, "
            "direct_response: {status: 204}}]\n"
        )
    monkeypatch.chdir(tmp_path)
    assert main(["diff", "old", "new"]) == 0
    assert "with a token of company GAINS any method /a" in capsys.readouterr().out
    assert main(["diff", "old", "new", "--policies", "rules"]) == 1
    assert "old/rules:1:1: there is no such folder" in capsys.readouterr().err
