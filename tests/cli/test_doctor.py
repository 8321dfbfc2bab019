"""`gateway doctor` says what is wrong with the installation, by its exit code too."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gateway.cli import main


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GATEWAY_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("GATEWAY_DATABASE_URL", f"sqlite:///{tmp_path}/gateway.db")
    return tmp_path


def test_a_fresh_installation_lacks_its_schema_and_then_is_sound(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", "--json"]) == 3
    assert f"no database {folder}/gateway.db" in capsys.readouterr().out
    (folder / "gateway.db").touch()
    assert main(["doctor", "--json"]) == 1
    assert "gateway db upgrade" in capsys.readouterr().out
    assert main(["db", "upgrade"]) == 0
    capsys.readouterr()
    assert main(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {line["check"] for line in found} >= {"sql", "schema", "clock", "redis"}
    assert {line["state"] for line in found} == {"good"}


def test_files_that_no_gateway_here_would_take_are_bad(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the settings of the installation: whose tokens are our own, they alone say."""
    main(["db", "upgrade"])
    routes = "issuers: {idp: {issuer: https://gw.example.com, audience: a}}\nroutes: []\n"
    (folder / "routes.yaml").write_text("version: 1\n" + routes)
    capsys.readouterr()
    assert main(["doctor"]) == 0
    assert "configuration  good" in capsys.readouterr().out
    monkeypatch.setenv("GATEWAY_ISSUER", "https://gw.example.com")
    assert main(["doctor"]) == 1
    assert "routes.yaml:2:25: `https://gw.example.com` is this gateway itself" in (
        capsys.readouterr().out
    )
    (folder / "routes.yaml").write_text("routs: []\n")
    assert main(["doctor"]) == 1
    assert "(and 1 more: `gateway validate`)" in capsys.readouterr().out


def test_a_store_that_is_away_is_exit_code_3(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["db", "upgrade"])
    monkeypatch.setenv("GATEWAY_REDIS_URL", "redis://127.0.0.1:1")
    assert main(["doctor"]) == 3
    assert "away" in capsys.readouterr().out
