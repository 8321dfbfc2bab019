"""`gateway db` on either SQL store."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.cli import main

GOOD, NO, USAGE, UNREACHABLE = 0, 1, 2, 3

Gateway = Callable[..., tuple[int, str, str]]


@pytest.fixture
def gateway(
    tmp_path: Path,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Gateway:
    """Runs a command; its exit code, its standard output and its standard error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GATEWAY_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("GATEWAY_DATABASE_URL", database_url)

    def run(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(words)
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return code, said.out, said.err

    return run


@pytest.fixture
def _an_empty_database(database_url: str, tmp_path: Path) -> None:
    """As an administrator makes it: a file or a schema without a table."""
    if database_url.startswith("sqlite:"):
        (tmp_path / "gateway.db").touch()


@pytest.mark.usefixtures("_an_empty_database")
def test_a_fresh_database_is_behind_until_it_is_upgraded(gateway: Gateway) -> None:
    code, out, _ = gateway("db", "status", "--json")
    assert (code, json.loads(out)["applied"]) == (NO, [])
    code, out, _ = gateway("db", "upgrade", "--json")
    assert code == GOOD
    assert "0001_accounts.sql" in json.loads(out)["applied"]
    code, out, _ = gateway("db", "status", "--json")
    assert (code, json.loads(out)["pending"]) == (GOOD, [])


def test_a_backup_is_restored_and_every_session_has_ended(gateway: Gateway) -> None:
    gateway("db", "upgrade")
    assert gateway("db", "backup", "kept", "--json")[0] == GOOD
    code, out, err = gateway("db", "restore", "kept", "--json")
    assert (code, json.loads(out)["sessions"]) == (GOOD, "ended")
    assert "signs in again" in err


@pytest.mark.usefixtures("_an_empty_database")
def test_a_backup_of_a_database_that_was_never_upgraded_says_what_to_do(gateway: Gateway) -> None:
    code, _, err = gateway("db", "backup", "kept")
    assert code == NO
    assert "gateway db upgrade" in err


def test_a_file_that_is_no_backup_is_refused(gateway: Gateway, tmp_path: Path) -> None:
    gateway("db", "upgrade")
    (tmp_path / "kept").write_text("{}")
    assert gateway("db", "restore", "kept")[0] == NO
    code, _, err = gateway("db", "restore", "missing")
    assert code == USAGE
    assert "missing" in err


def test_a_store_that_cannot_be_reached_is_exit_code_3(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATEWAY_DATABASE_URL", "postgresql://u:geheim@127.0.0.1:1/d")
    code, _, err = gateway("db", "status")
    assert code == UNREACHABLE
    assert "geheim" not in err
