"""`gateway revoke user NAME:sub` and `session NAME:sid`: what another issuer has given out."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

import pytest

from gateway.cli import main

GOOD, NO, USAGE = 0, 1, 2
ROUTES = """\
version: 1
issuers:
  company:
    issuer: https://id.example.com/realms/main
    audience: orders
    leeway: 20s
upstreams: {backend: {targets: ["http://127.0.0.1:9"]}}
routes:
  - {id: all, match: {prefix: /app}, issuers: [own, company], policy: signed-in, upstream: backend}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GATEWAY_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("GATEWAY_DATABASE_URL", f"sqlite:///{tmp_path}/gateway.db")
    assert main(["db", "upgrade"]) == GOOD
    (tmp_path / "routes.yaml").write_text(ROUTES)
    return tmp_path


def changes(folder: Path) -> list[tuple[str, str, str, int]]:
    with sqlite3.connect(folder / "gateway.db") as connection:
        return connection.execute(
            "SELECT kind, target, cause, not_before FROM changes ORDER BY created_at, target"
        ).fetchall()


def test_a_users_tokens_are_refused_up_to_the_issuers_leeway(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = int(time.time())
    assert main(["revoke", "user", "company:auth0|alice@example.com"]) == GOOD
    assert "revoked: company:auth0|alice@example.com" in capsys.readouterr().out
    ((kind, target, cause, not_before),) = changes(folder)
    assert (kind, target, cause) == (
        "subject",
        "company:auth0|alice@example.com",
        "token_revoked",
    )
    assert before + 20 <= not_before <= time.time() + 20


def test_a_session_is_refused_once(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        assert main(["revoke", "session", "company:a/b+c="]) == GOOD
        assert "revoked: company:a/b+c=" in capsys.readouterr().out
    assert [change[:2] for change in changes(folder)] == [("session", "company:a/b+c=")]


def test_an_issuer_that_there_is_not_is_told(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["revoke", "user", "compny:alice"]) == USAGE
    assert "routes.yaml has no issuer `compny`; it has `company`" in capsys.readouterr().err
    (folder / "routes.yaml").write_text("version: 1\n")
    assert main(["revoke", "user", "company:alice"]) == USAGE
    assert "routes.yaml has no issuer `company`, nor any other" in capsys.readouterr().err
    assert changes(folder) == []


def test_what_no_token_can_hold_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for kind in ("user", "session"):
        for name in ("company:", "company:a b", "company:ä", "company:" + "a" * 256):
            assert main(["revoke", kind, name]) == USAGE
            assert "1 to 255 visible ASCII characters" in capsys.readouterr().err
    assert changes(folder) == []


@pytest.mark.parametrize("kind", ["user", "session"])
@pytest.mark.parametrize("name", ["eyJhbGciOiJub25lIn0.e30.c2ln", "ag_" + "0" * 49])
def test_a_whole_token_is_kept_of_no_issuer(folder: Path, kind: str, name: str) -> None:
    assert main(["revoke", kind, f"company:{name}"]) == USAGE
    assert changes(folder) == []


def test_a_session_of_our_own_may_hold_a_colon(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["revoke", "session", "imported:7"]) == GOOD
    assert "has no issuer `imported`" in capsys.readouterr().err
    (folder / "routes.yaml").unlink()
    assert main(["revoke", "session", "imported:8"]) == GOOD
    assert [change[1] for change in changes(folder)] == ["imported:7", "imported:8"]


def test_a_user_of_an_issuer_needs_the_configuration(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "routes.yaml").rename(folder / "elsewhere.yaml")
    assert main(["revoke", "user", "company:alice"]) != GOOD
    assert main(["revoke", "user", "company:alice", "--config", "elsewhere.yaml"]) == GOOD


@pytest.mark.parametrize("kind", ["user", "session"])
def test_a_key_of_ours_is_no_id_of_another_issuer(
    folder: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    key = "ag_" + "0" * 49
    for text in (f"company:{key}", f"company:x|{key}", f"company:Bearer:{key}"):
        assert main(["revoke", kind, text]) == USAGE
        said = capsys.readouterr()
        assert key not in said.out + said.err
    assert changes(folder) == []
    assert main(["revoke", kind, "company:ag_joe"]) == GOOD
