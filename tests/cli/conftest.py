"""A folder with an installation, and the commands run there."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.cli import main
from tests.cli.installed import GOOD, Gateway


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GATEWAY_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("GATEWAY_DATABASE_URL", f"sqlite:///{tmp_path}/gateway.db")
    monkeypatch.setenv("GATEWAY_BCRYPT_ROUNDS", "10")
    assert main(["db", "upgrade"]) == GOOD
    return tmp_path


@pytest.fixture
def gateway(folder: Path, capsys: pytest.CaptureFixture[str]) -> Gateway:
    def run(*words: str) -> tuple[int, str]:
        capsys.readouterr()
        code = main(words)
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return code, said.out

    return run
