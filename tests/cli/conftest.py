"""A folder with an installation, and the commands run there."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.cli import main
from tests import forked
from tests.cli.installed import GOOD, Gateway


@pytest.fixture(autouse=True, scope="session")
def _quick_hashes() -> None:
    forked.make_hashes_quick()


@pytest.fixture
def quick_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a new database is asked how long a hash takes here, and a new key is one of RSA: half a
    second of each command that makes one."""
    monkeypatch.setenv("GATEWAY_BCRYPT_ROUNDS", "10")
    monkeypatch.setenv("GATEWAY_SIGNING_ALG", "EdDSA")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick_settings: None) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GATEWAY_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("GATEWAY_DATABASE_URL", f"sqlite:///{tmp_path}/gateway.db")
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
