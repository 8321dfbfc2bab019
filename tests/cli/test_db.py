"""`gateway db` on either SQL store."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.app.data_dir import DataFolder
from gateway.audit.log import AuditLog
from gateway.audit.pruning import prune, pruner_name
from gateway.cli import main
from gateway.identity.key_derivation import KeyPurpose, derived_key
from gateway.model import SystemClock
from gateway.stores.backup import tables
from gateway.stores.open_database import open_database

GOOD, NO, USAGE, UNREACHABLE = 0, 1, 2, 3

Gateway = Callable[..., tuple[int, str, str]]


@pytest.fixture
def gateway(
    tmp_path: Path,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    quick_settings: None,
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


def change(database_url: str, *statements: str) -> None:
    """By somebody who has the database and not the gateway."""

    async def work() -> None:
        database = open_database(database_url)
        try:
            async with database.transaction() as tx:
                for statement in statements:
                    await tx.run(statement)
        finally:
            await database.close()

    asyncio.run(work())


def wipe(database_url: str) -> None:
    """Every table but that of the migrations is empty, as a new database's are."""
    change(database_url, *[f"DELETE FROM {table.name}" for table in reversed(tables())])


def test_what_was_ended_since_a_backup_stays_ended_however_old_it_is(
    gateway: Gateway, database_url: str
) -> None:
    assert gateway("db", "upgrade")[0] == GOOD
    for email in ("gone@example.com", "shut@example.com", "role@example.com"):
        assert gateway("users", "create", email, "--verified", "--role", "admin")[0] == GOOD
    assert gateway("clients", "create", "dropped")[0] == GOOD
    assert gateway("clients", "create", "stays")[0] == GOOD
    assert gateway("db", "backup", "kept")[0] == GOOD

    assert gateway("users", "delete", "gone@example.com", "--yes")[0] == GOOD
    assert gateway("users", "disable", "shut@example.com")[0] == GOOD
    assert gateway("roles", "revoke", "role@example.com", "admin")[0] == GOOD
    assert gateway("clients", "delete", "dropped", "--yes")[0] == GOOD
    # The backup is older than what the gateway keeps of revocations.
    change(database_url, "DELETE FROM changes")
    code, out, _ = gateway("db", "restore", "kept", "--json")
    assert code == GOOD
    assert json.loads(out)["ended again"] == {
        "deleted_accounts": 1, "disabled_accounts": 1, "roles": 1, "clients": 1,
    }  # fmt: skip
    listed = {row["email"]: row for row in json.loads(gateway("users", "list", "--json")[1])}
    assert set(listed) == {"shut@example.com", "role@example.com"}
    assert listed["shut@example.com"]["disabled"]
    assert listed["role@example.com"]["roles"] == []
    clients = json.loads(gateway("clients", "list", "--json")[1])
    assert [row["name"] for row in clients] == ["stays"]


def test_a_backup_that_was_kept_by_somebody_else_is_restored_as_it_was_or_not_at_all(
    gateway: Gateway, tmp_path: Path
) -> None:
    gateway("db", "upgrade")
    gateway("users", "create", "a@example.com", "--verified")
    gateway("db", "backup", "kept")
    edited = (tmp_path / "kept").read_bytes().replace(b"a@example.com", b"b@example.com")
    (tmp_path / "edited").write_bytes(edited)
    code, _, err = gateway("db", "restore", "edited")
    assert code == NO
    assert "changed after it was written" in err
    assert "a@example.com" in gateway("users", "list")[1]


def test_a_backup_of_an_older_secret_is_restored_with_that_secret(
    gateway: Gateway, tmp_path: Path
) -> None:
    gateway("db", "upgrade")
    gateway("users", "create", "a@example.com", "--verified")
    gateway("db", "backup", "kept")
    (tmp_path / "then").write_bytes((tmp_path / "data" / "key-secret").read_bytes())
    assert gateway("keys", "reseal")[0] == GOOD
    code, _, err = gateway("db", "restore", "kept")
    assert (code, "--secret-file" in err) == (NO, True)
    assert gateway("db", "restore", "kept", "--secret-file", "then")[0] == GOOD
    code, out, err = gateway("audit", "verify")
    assert code == GOOD, out + err


def test_the_audit_log_tells_of_a_restore_into_a_database_that_was_lost(
    gateway: Gateway, database_url: str, tmp_path: Path
) -> None:
    """The rows since the backup are gone, and a head of the ordinary log names one of them."""
    gateway("db", "upgrade")
    gateway("users", "create", "a@example.com")
    gateway("db", "backup", "kept")
    gateway("users", "create", "b@example.com")
    head = json.loads(gateway("audit", "tail", "-n", "1", "--json")[1])
    wipe(database_url)
    gateway("db", "upgrade")
    assert gateway("db", "restore", "kept")[0] == GOOD
    named = f"{head['writer']}:{head['position']}:{head['hash']}"
    code, out, err = gateway("audit", "verify", "--head", named)
    assert (code, "was restored" in err) == (GOOD, True), out + err
    code, out, _ = gateway("audit", "tail", "--json")
    assert '"event":"restored"' in out


def test_a_restore_into_a_database_that_was_not_lost_explains_no_row_away(
    gateway: Gateway, database_url: str
) -> None:
    gateway("db", "upgrade")
    gateway("users", "create", "a@example.com")
    gateway("db", "backup", "kept")
    gateway("users", "create", "b@example.com")
    head = json.loads(gateway("audit", "tail", "-n", "1", "--json")[1])
    assert gateway("db", "restore", "kept")[0] == GOOD
    change(database_url, f"DELETE FROM audit_events WHERE writer = '{head['writer']}'")
    named = f"{head['writer']}:{head['position']}:{head['hash']}"
    assert gateway("audit", "verify", "--head", named)[0] == NO


def test_a_restore_of_a_backup_whose_events_were_pruned_explains_no_row_away(
    gateway: Gateway, tmp_path: Path, database_url: str
) -> None:
    assert gateway("db", "upgrade")[0] == GOOD
    assert gateway("users", "create", "alice@example.com")[0] == GOOD
    assert gateway("db", "backup", "kept")[0] == GOOD
    asyncio.run(_prune_everything(database_url, DataFolder(tmp_path / "data").key_secret()))
    assert gateway("db", "restore", "kept")[0] == GOOD
    lines = gateway("audit", "tail", "--all", "--json")[1].splitlines()
    (restored,) = [e for e in map(json.loads, lines) if e["event"] == "restored"]
    assert restored["detail"]["lost_rows"] is False


async def _prune_everything(database_url: str, secret: bytes) -> None:
    database, clock = open_database(database_url), SystemClock()
    keys = [derived_key(secret, p) for p in (KeyPurpose.AUDIT_PSEUDONYM, KeyPurpose.AUDIT_CHAIN)]
    try:
        pruner = AuditLog(database, clock, *keys, writer=pruner_name())
        assert await prune(database, pruner, clock.now() + 60) > 0
    finally:
        await database.close()


ROUTES = """
version: 1
upstreams: {u: {targets: ['http://127.0.0.1:9000']}}
routes: [{id: r, match: {path: /r}, upstream: u, policy: p}]
"""
POLICY = """
policy: p
version: 1
rules:
  - {id: all, allow: ['*']}
  - {id: away, deny: ['*'], when: "has_role('suspended')"}
"""


@pytest.mark.parametrize(
    ("routes", "roles", "said"),
    [
        (ROUTES, ["suspended"], "1 role that a provider gave"),
        (None, [], "there is no configuration at routes.yaml"),
        ("routes: 7", [], "the configuration is not valid"),
    ],
)
def test_a_restore_lifts_no_bar_that_a_provider_gave_where_it_knows_the_rules(
    gateway: Gateway,
    database_url: str,
    tmp_path: Path,
    routes: str | None,
    roles: list[str],
    said: str,
) -> None:
    assert gateway("db", "upgrade")[0] == GOOD
    assert gateway("users", "create", "eve@example.com", "--verified")[0] == GOOD
    change(
        database_url,
        "INSERT INTO linked_identities (id, account_id, issuer, subject, provider, linked_at,"
        " last_used_at) SELECT 'l', id, 'i', 's', 'p', 0, 0 FROM accounts",
        "INSERT INTO linked_roles VALUES ('l', 'suspended')",
        "INSERT INTO linked_roles VALUES ('l', 'editor')",
    )
    if routes is not None:
        (tmp_path / "routes.yaml").write_text(routes)
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "p.yaml").write_text(POLICY)
    assert gateway("db", "backup", "kept")[0] == GOOD
    code, out, err = gateway("db", "restore", "kept", "--json")
    assert code == GOOD
    (eve,) = json.loads(gateway("users", "list", "--json")[1])
    assert eve["roles"] == roles
    assert json.loads(out)["ended again"] == {"provider_roles": 2 - len(roles)}
    assert said in err
