"""`gateway config migrate`: as an operator runs it after an upgrade."""

from __future__ import annotations

import json
import os
import pty
import stat
import subprocess
from pathlib import Path

import pytest

from gateway.cli import main
from tests.forked import GATEWAY

GOOD, NO, USAGE = 0, 1, 2

ROUTES = """\
version: 1
routes:
  - id: hello          # says hello
    match: {path: /hello}
    auth: public
    respond: {body: hello}
"""
MIGRATED = ROUTES.replace("respond", "direct_response")
SETTINGS = "# kept\nGATEWAY_KEY_SECRET=hidden\nGATEWAY_CLIENT_STALL_S=hidden-too\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("GATEWAY_")]:
        monkeypatch.delenv(name)
    (tmp_path / "routes.yaml").write_text(ROUTES)
    (tmp_path / ".env").write_text(SETTINGS)
    return tmp_path


def test_yes_writes_all_files_and_shows_what_it_wrote(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["config", "migrate", "--yes"]) == GOOD
    assert (folder / "routes.yaml").read_text() == MIGRATED
    assert (folder / ".env").read_text() == SETTINGS.replace(
        "CLIENT_STALL_S", "CLIENT_WRITE_TIMEOUT_S"
    )
    shown = capsys.readouterr()
    assert "+    direct_response: {body: hello}" in shown.out
    assert "renamed 2 words" in shown.err
    assert main(["config", "migrate", "--yes"]) == GOOD
    assert "nothing to rename" in capsys.readouterr().err


def test_no_value_of_a_setting_is_shown(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "migrate", "--diff"]) == NO
    shown = capsys.readouterr()
    assert ".env:3: +GATEWAY_CLIENT_WRITE_TIMEOUT_S=…" in shown.out
    assert "hidden" not in shown.out + shown.err


@pytest.mark.parametrize(
    "flags", [["--check"], ["--diff"], ["--check", "--json"], ["--check", "--yes"]]
)
def test_a_look_writes_nothing_and_says_by_its_exit_code_that_there_is_something(
    folder: Path, flags: list[str]
) -> None:
    assert main(["config", "migrate", *flags]) == NO
    assert (folder / "routes.yaml").read_text() == ROUTES
    (folder / "routes.yaml").write_text(MIGRATED)
    (folder / ".env").unlink()
    assert main(["config", "migrate", *flags]) == GOOD


def test_check_names_file_line_and_column(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "migrate", "--check"]) == NO
    assert capsys.readouterr().out.splitlines() == [
        "routes.yaml:6:5: `respond` is `direct_response` since 0.1",
        ".env:3:1: `GATEWAY_CLIENT_STALL_S` is `GATEWAY_CLIENT_WRITE_TIMEOUT_S` since 0.1",
    ]


def test_the_data_name_every_word(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "migrate", "--yes", "--json"]) == GOOD
    told = json.loads(capsys.readouterr().out)
    assert told["written"] is True
    assert told["problems"] == []
    assert told["renamed"][0] == {
        "file": "routes.yaml",
        "line": 6,
        "column": 5,
        "old": "respond",
        "new": "direct_response",
        "version": "0.1",
    }


def test_without_a_terminal_nothing_is_written_unasked(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["config", "migrate"]) == USAGE
    assert "--yes writes without asking" in capsys.readouterr().err
    assert (folder / "routes.yaml").read_text() == ROUTES


@pytest.mark.parametrize(("answer", "code", "text"), [("y", GOOD, MIGRATED), ("n", NO, ROUTES)])
def test_at_a_terminal_it_asks(folder: Path, answer: str, code: int, text: str) -> None:
    ours, theirs = pty.openpty()
    try:
        asking = subprocess.Popen(
            [str(GATEWAY), "config", "migrate"], cwd=folder, stdin=theirs, stderr=subprocess.PIPE
        )
        os.write(ours, f"{answer}\n".encode())
        _, err = asking.communicate(timeout=60)
    finally:
        os.close(ours)
        os.close(theirs)
    assert asking.returncode == code
    assert b"Write 2 files?" in err
    assert (folder / "routes.yaml").read_text() == text


def test_a_file_that_is_edited_while_it_asks_is_left_as_it_is(folder: Path) -> None:
    (folder / ".env").unlink()
    ours, theirs = pty.openpty()
    try:
        with subprocess.Popen(
            [str(GATEWAY), "config", "migrate"], cwd=folder, stdin=theirs, stderr=subprocess.PIPE
        ) as asking:
            assert asking.stderr is not None
            asked = b""
            while b"Write 1 file?" not in asked:
                asked += os.read(asking.stderr.fileno(), 1_000)
            (folder / "routes.yaml").write_text(ROUTES + "# mine\n")
            os.write(ours, b"y\n")
            _, err = asking.communicate(timeout=60)
    finally:
        os.close(ours)
        os.close(theirs)
    assert asking.returncode == NO
    assert b"was edited meanwhile" in err
    assert (folder / "routes.yaml").read_text() == ROUTES + "# mine\n"
    assert sorted(path.name for path in folder.iterdir()) == ["routes.yaml"]


def test_where_one_file_cannot_be_written_none_is(folder: Path) -> None:
    (folder / "there").mkdir()
    (folder / "there" / "env").write_text(SETTINGS)
    (folder / "there").chmod(0o555)
    folder.chmod(0o777)
    # Root may write everywhere.
    nobody = 65_534 if os.geteuid() == 0 else None
    migrating = subprocess.run(
        [str(GATEWAY), "config", "migrate", "--yes", "--env-file", "there/env"],
        cwd=folder,
        user=nobody,
        group=nobody,
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": os.environ["PATH"]},
    )
    assert migrating.returncode == USAGE, migrating.stderr
    assert "you may not write there" in migrating.stderr
    assert (folder / "routes.yaml").read_text() == ROUTES


def test_a_file_under_two_names_is_written_once(folder: Path) -> None:
    (folder / "policies").mkdir()
    (folder / "policies" / "again.yaml").symlink_to(folder / "routes.yaml")
    assert main(["config", "migrate", "--yes"]) == GOOD
    assert (folder / "routes.yaml").read_text() == MIGRATED


def test_what_is_to_be_done_by_hand_keeps_everything_from_being_written(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    both = SETTINGS + "GATEWAY_CLIENT_WRITE_TIMEOUT_S=3\n"
    (folder / ".env").write_text(both)
    assert main(["config", "migrate", "--yes"]) == NO
    assert ".env:3:1: `GATEWAY_CLIENT_STALL_S` and" in capsys.readouterr().err
    assert (folder / "routes.yaml").read_text() == ROUTES
    assert (folder / ".env").read_text() == both


def test_a_name_of_the_environment_is_told_as_no_file_holds_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GATEWAY_AUDIT_KEEP_DAYS", "5")
    assert main(["config", "migrate", "--yes"]) == NO
    assert "GATEWAY_AUDIT_KEEP_DAYS of the environment: renamed" in capsys.readouterr().err


def test_mode_owner_and_link_of_a_file_stay(folder: Path) -> None:
    real = folder / "real.yaml"
    (folder / "routes.yaml").rename(real)
    (folder / "routes.yaml").symlink_to(real)
    real.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(real, 10_001, 10_002)
    before = real.stat()
    assert main(["config", "migrate", "--yes"]) == GOOD
    after = real.stat()
    assert (folder / "routes.yaml").is_symlink()
    assert real.read_text() == MIGRATED
    assert stat.S_IMODE(after.st_mode) == 0o640
    assert (after.st_uid, after.st_gid) == (before.st_uid, before.st_gid)


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["--config", "nowhere.yaml"], USAGE, "nowhere.yaml: No such file"),
        (["--env-file", "nowhere"], USAGE, "--env-file"),
        (["--policies", "nowhere"], USAGE, "nowhere: there is no such folder"),
        (["--config", "."], USAGE, "is no file"),
        (["--config", "latin.yaml"], NO, "latin.yaml:2:1: is not UTF-8"),
        (["--config", "broken.yaml", "--yes"], NO, "broken.yaml:2:1: not YAML"),
    ],
)
def test_what_cannot_be_read_is_told(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    code: int,
    told: str,
) -> None:
    (folder / "latin.yaml").write_bytes(b"version: 1\n# \xe9\n")
    (folder / "broken.yaml").write_text("routes: [\n")
    assert main(["config", "migrate", *words]) == code
    assert told in capsys.readouterr().err


def test_validate_and_doctor_say_who_writes_it(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / ".env").unlink()
    assert main(["validate"]) == NO
    shown = capsys.readouterr()
    assert (
        "routes.yaml:6:5: unknown key `respond` in a route; renamed to `direct_response` in 0.1;"
        " `gateway config migrate` writes it" in shown.out
    )
    assert "1 word was renamed: `gateway config migrate`" in shown.err
    main(["doctor", "--json"])
    findings = {row["check"]: row for row in json.loads(capsys.readouterr().out)}
    assert findings["words"]["state"] == "bad"
    assert findings["words"]["detail"].endswith("since 0.1: `gateway config migrate`")


def test_a_gateway_that_starts_names_the_command(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor"]) == USAGE
    assert (
        "GATEWAY_CLIENT_STALL_S: renamed to `GATEWAY_CLIENT_WRITE_TIMEOUT_S` in 0.1;"
        " `gateway config migrate` writes it" in capsys.readouterr().err
    )
