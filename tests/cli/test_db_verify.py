"""`gateway db verify`: a backup is worth something, or a sentence says why not."""

from __future__ import annotations

import asyncio
import gzip
import hmac
import json
import os
from collections.abc import Callable
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any

import pytest

from gateway.app.data_dir import DataFolder
from gateway.cli import main
from gateway.identity.key_derivation import KeyPurpose, derived_key
from gateway.stores.migrations import shipped
from gateway.stores.open_database import open_database
from tests.cli.test_db import change

GOOD, NO, USAGE, UNREACHABLE = 0, 1, 2, 3
Gateway = Callable[..., tuple[int, str, str]]
on_one_store = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
"""Of what is asked of the file alone."""


@pytest.fixture
def gateway(
    tmp_path: Path,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    quick_settings: None,
) -> Gateway:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GATEWAY_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("GATEWAY_DATABASE_URL", database_url)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr("tempfile.tempdir", None)
    (tmp_path / "tmp").mkdir()

    def run(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(words)
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        assert "defect" not in said.err
        return code, said.out, said.err

    assert run("db", "upgrade")[0] == GOOD
    assert run("users", "create", "a@example.com", "--verified", "--role", "admin")[0] == GOOD
    assert run("db", "backup", "kept")[0] == GOOD
    return run


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all files that are refused: nothing of it changes."""
    folder = tmp_path_factory.mktemp("installation")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GATEWAY_DATA_DIR", str(folder / "data"))
        patch.setenv("GATEWAY_BCRYPT_ROUNDS", "10")
        assert main(["db", "upgrade"]) == GOOD
        assert main(["users", "create", "a@example.com", "--verified"]) == GOOD
        assert main(["db", "backup", str(folder / "kept")]) == GOOD
    return folder


def test_a_good_backup_says_who_wrote_it_when_and_what_it_holds(
    gateway: Gateway, database_url: str, tmp_path: Path
) -> None:
    code, out, _ = gateway("db", "verify", "kept", "--json")
    assert code == GOOD
    told = json.loads(out)
    assert told["release"] == version_of("authgate")
    assert told["schema"] == shipped()[-1].name
    assert told["dialect"] == ("sqlite" if database_url.startswith("sqlite") else "postgresql")
    assert told["tables"]["accounts"] == 1
    assert told["tables"]["account_roles"] == 1
    assert told["rows"] == sum(told["tables"].values())
    assert told["audit"]["events"] >= 1
    assert told["audit"]["problems"] == []
    assert 0 <= told["age_s"] < 600
    assert list((tmp_path / "tmp").iterdir()) == []
    code, out, _ = gateway("db", "verify", "kept")
    assert (code, "unchanged" in out, "accounts 1" in out) == (GOOD, True, True)


@on_one_store
def test_no_database_is_asked(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_DATABASE_URL", "postgresql://u:p@127.0.0.1:1/none")
    assert gateway("db", "verify", "kept")[0] == GOOD


@on_one_store
def test_a_file_of_another_secret_is_verified_with_that_secret(
    gateway: Gateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "then").write_bytes((tmp_path / "data" / "key-secret").read_bytes())
    assert gateway("keys", "reseal")[0] == GOOD
    code, _, err = gateway("db", "verify", "kept")
    assert (code, "--secret-file" in err) == (NO, True)
    # On a machine that has the file and the secret, and nothing of the installation.
    monkeypatch.setenv("GATEWAY_DATA_DIR", str(tmp_path / "elsewhere"))
    assert gateway("db", "verify", "kept", "--secret-file", "then")[0] == GOOD
    code, _, err = gateway("db", "verify", "kept")
    assert (code, "Traceback" in err) == (USAGE, False)


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def lacks_a_line(data: bytes) -> bytes:
    lines = data.splitlines(keepends=True)
    return b"".join([*lines[:1], *lines[2:]])


def first_line(data: bytes) -> dict[str, Any]:
    return dict(json.loads(data.splitlines()[0]))


def with_head(data: bytes, **fields: Any) -> bytes:
    _, _, rest = data.partition(b"\n")
    return json.dumps(first_line(data) | fields).encode() + b"\n" + rest


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda data: b"", "cut short"),
        (cut, "cut short"),
        (lambda data: data[:-1], "cut short"),
        (lambda data: data.rpartition(b"\n[")[0] + b"\n", "cut short"),
        (lacks_a_line, "changed after it was written"),
        (lambda data: data.replace(b"a@example.com", b"b@example.com"), "changed after it was"),
        (lambda data: data.replace(b'hmac-sha256": "', '\u00e9"x": "é'.encode()), "line "),
        (lambda data: data.rpartition(b": ")[0] + ': "é"}\n'.encode(), "changed after it was"),
        (lambda data: data + b"{}\n", "something follows the end"),
        (lambda data: data.replace(b"\n[", b"\n\xff\xfe[", 1), "line 2: not a line of a backup"),
        (lambda data: b"\x00" * 100, "this is no backup of authgate"),
        (lambda data: os.urandom(4096), "this is"),
        (lambda data: b"{}\n", "this is no backup of authgate"),
        (lambda data: b'{"a": ' + b"[" * 100_000 + b"\n", "this is no backup of authgate"),
        (lambda data: b"SQLite format 3\x00" + data, "file of an SQLite database"),
        (lambda data: b"PGDMP\x01" + data, "a dump of pg_dump"),
        (gzip.compress, "decompress it first"),
        (
            lambda data: with_head(data, schema=["0001_accounts.sql", "9999_x.sql"], release="9.1"),
            "a newer version (authgate 9.1): it has 9999_x.sql",
        ),
        (lambda data: with_head(data, authgate=3, release="9.1"), "another version of authgate"),
        (lambda data: with_head(data, schema="all"), "another version of authgate"),
        (lambda data: with_head(data, schema=[1]), "another version of authgate"),
        (lambda data: with_head(data, at_ms=1), "changed after it was written"),
        (
            lambda data: data.replace(b'["audit_events",{"writer"', b'["audit_events",{"w"', 1),
            "not a line of a backup",
        ),
        (lambda data: data.replace(b'["accounts"', b'["pets"', 1), "an unknown table"),
    ],
)
def test_what_cannot_be_relied_upon_is_told_in_a_sentence_by_verify_and_by_restore(
    installation: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    spoil: Callable[[bytes], bytes],
    told: str,
) -> None:
    monkeypatch.setenv("GATEWAY_DATA_DIR", str(installation / "data"))
    spoilt = tmp_path / "spoilt"
    spoilt.write_bytes(spoil((installation / "kept").read_bytes()))
    for command in ("verify", "restore"):
        capsys.readouterr()
        assert main(["db", command, str(spoilt)]) == NO
        said = capsys.readouterr()
        assert said.out == ""
        assert told in said.err
        assert "defect" not in said.err
    assert main(["users", "list"]) == GOOD
    assert "a@example.com" in capsys.readouterr().out


@on_one_store
@pytest.mark.parametrize(
    "words", [["missing"], ["."], ["pipe"], ["kept", "--secret-file", "missing"]]
)
def test_a_wrong_name_is_wrong_usage(gateway: Gateway, tmp_path: Path, words: list[str]) -> None:
    os.mkfifo(tmp_path / "pipe")
    code, _, err = gateway("db", "verify", *words)
    assert code == USAGE
    assert words[-1] in err


@on_one_store
def test_a_line_without_an_end_is_read_to_a_bound(
    gateway: Gateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.stores.backup.MAX_LINE_BYTES", 5_000)
    kept = (tmp_path / "kept").read_bytes()
    (tmp_path / "long").write_bytes(kept.partition(b"\n")[0] + b"\n" + b"x" * 100_000)
    code, _, err = gateway("db", "verify", "long")
    assert (code, "longer than any line" in err) == (NO, True)


@on_one_store
def test_an_audit_log_that_was_changed_before_the_backup_is_told(
    gateway: Gateway, database_url: str
) -> None:
    change(database_url, "UPDATE audit_events SET line = '{}' WHERE position = 1")
    assert gateway("db", "backup", "changed")[0] == GOOD
    code, out, err = gateway("db", "verify", "changed")
    assert (code, "the row was changed" in out) == (NO, True)
    assert "the audit log in it was changed" in err


@on_one_store
def test_a_backup_of_a_version_that_did_not_say_who_it_was_is_good(
    gateway: Gateway, tmp_path: Path
) -> None:
    """With the columns and the tables of that version alone."""
    lines = (tmp_path / "kept").read_bytes().splitlines(keepends=True)
    head = json.loads(lines[0])
    del head["release"]
    head["schema"] = [name for name in head["schema"] if int(name[:4]) <= 11]
    rows = []
    for line in lines[1:-1]:
        table, row = json.loads(line)
        row.pop("passkey_handle", None)
        row.pop("tenant", None)
        rows.append(json.dumps([table, row]).encode() + b"\n")
    body = json.dumps(head).encode() + b"\n" + b"".join(rows)
    key = derived_key(DataFolder(tmp_path / "data").key_secret(), KeyPurpose.BACKUP)
    foot = {"rows": len(rows), "hmac-sha256": hmac.digest(key, body, "sha256").hex()}
    (tmp_path / "old").write_bytes(body + json.dumps(foot).encode() + b"\n")
    code, out, _ = gateway("db", "verify", "old", "--json")
    assert (code, json.loads(out)["release"]) == (GOOD, None)
    assert json.loads(out)["schema"] == "0011_personal_keys.sql"
    assert gateway("db", "restore", "old")[0] == GOOD


def test_what_was_verified_and_restored_brings_nothing_back_that_was_ended_since(
    gateway: Gateway, database_url: str
) -> None:
    for email in ("gone@example.com", "shut@example.com"):
        assert gateway("users", "create", email, "--verified")[0] == GOOD
    begin_session(database_url)
    assert gateway("db", "backup", "kept")[0] == GOOD
    assert gateway("users", "delete", "gone@example.com", "--yes")[0] == GOOD
    assert gateway("users", "disable", "shut@example.com")[0] == GOOD
    assert gateway("roles", "revoke", "a@example.com", "admin")[0] == GOOD
    assert gateway("revoke", "user", "a@example.com")[0] == GOOD
    assert gateway("db", "verify", "kept")[0] == GOOD
    code, out, _ = gateway("db", "restore", "kept", "--json")
    assert code == GOOD
    assert json.loads(out)["ended again"] == {
        "deleted_accounts": 1, "disabled_accounts": 1, "roles": 1,
    }  # fmt: skip
    listed = {row["email"]: row for row in json.loads(gateway("users", "list", "--json")[1])}
    assert set(listed) == {"a@example.com", "shut@example.com"}
    assert listed["shut@example.com"]["disabled"]
    assert listed["a@example.com"]["roles"] == []
    session, account, now = told_of(database_url)
    assert session["end_reason"] == "restored"
    assert account["not_before"] >= session["created_at"]
    assert account["not_before"] <= now + 1


def begin_session(database_url: str) -> None:
    change(
        database_url,
        "INSERT INTO families (id, account_id, transport, user_agent, address, amr, auth_time,"
        " created_at, last_used_at, expires_at) SELECT 'f', id, 'bearer', 'a', 'b', 'pwd', 1,"
        " created_at, created_at, 9000000000 FROM accounts WHERE email = 'a@example.com'",
    )


def told_of(database_url: str) -> tuple[Any, Any, float]:
    async def work() -> tuple[Any, Any, float]:
        database = open_database(database_url)
        try:
            async with database.read_transaction() as tx:
                session = await tx.one("SELECT * FROM families WHERE id = 'f'")
                account = await tx.one("SELECT * FROM accounts WHERE email = 'a@example.com'")
                return session, account, await tx.now()
        finally:
            await database.close()

    return asyncio.run(work())
