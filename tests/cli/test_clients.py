"""`gateway clients|audit` on an installation that no gateway serves now."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gateway.identity.keys.jwk import Alg, generate, thumbprint
from gateway.stores.open_database import open_database
from tests.cli.installed import GOOD, NO, USAGE, Gateway


def asked(gateway: Gateway, *words: str) -> Any:
    code, out = gateway(*words, "--json")
    assert code == GOOD, out
    return json.loads(out)


def alter(folder: Path, sql: str) -> None:
    async def work() -> None:
        database = open_database(f"sqlite:///{folder}/gateway.db")
        try:
            async with database.transaction() as tx:
                assert await tx.run(sql) > 0
        finally:
            await database.close()

    asyncio.run(work())


def test_a_client_is_made_and_its_secret_printed_once(gateway: Gateway) -> None:
    code, out = gateway("clients", "create", "billing", "--role", "reader", "--role", "writer")
    assert code == GOOD
    assert [line.split()[0:2] for line in out.splitlines()] == [
        ["client", "id"],
        ["client", "secret"],
    ]
    secret = out.splitlines()[1].split()[-1]
    (shown,) = asked(gateway, "clients", "list")
    assert (shown["name"], shown["roles"], shown["secrets"]) == ("billing", ["reader", "writer"], 1)
    assert secret not in json.dumps(shown)


def test_a_name_that_is_taken_is_no(gateway: Gateway) -> None:
    gateway("clients", "create", "billing")
    assert gateway("clients", "create", "billing")[0] == NO


@pytest.mark.parametrize("words", [["a b"], ["billing", "--role", "a,b"]])
def test_a_name_or_role_that_no_token_could_carry_is_wrong_usage(
    gateway: Gateway, words: list[str]
) -> None:
    assert gateway("clients", "create", *words)[0] == USAGE


def test_a_client_may_sign_with_a_key_of_its_own(gateway: Gateway, folder: Path) -> None:
    public = generate(Alg.ES256).public_key()
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (folder / "key.pem").write_bytes(pem)
    made = asked(gateway, "clients", "create", "billing", "--role", "a", "--public-key", "key.pem")
    (client,) = asked(gateway, "clients", "list")
    assert client["public_keys"] == [thumbprint(public)]
    # A secret that nobody asked for is one more that could leak.
    assert made == {"client_id": client["client_id"]}
    assert (client["secrets"], client["roles"]) == (0, ["a"])
    assert gateway("clients", "create", "billing", "--public-key", "key.pem")[0] == NO
    (folder / "key.pem").write_bytes(b"nonsense")
    assert gateway("clients", "create", "b", "--public-key", "key.pem")[0] == USAGE
    assert gateway("clients", "create", "b", "--public-key", "none.pem")[0] == USAGE


def test_a_rotation_prints_another_secret_and_keeps_the_one_before(gateway: Gateway) -> None:
    made = asked(gateway, "clients", "create", "billing")
    rotated = asked(gateway, "clients", "rotate", "billing")
    assert rotated["client_id"] == made["client_id"]
    assert rotated["client_secret"] != made["client_secret"]
    assert asked(gateway, "clients", "list")[0]["secrets"] == 2
    asked(gateway, "clients", "rotate", made["client_id"], "--at-once")
    assert asked(gateway, "clients", "list")[0]["secrets"] == 1


def test_a_key_is_printed_once_and_listed_by_its_id(gateway: Gateway) -> None:
    asked(gateway, "clients", "create", "ci", "--role", "reader")
    made = asked(
        gateway, "clients", "key", "ci", "--role", "reader", "--scope", "a:read", "--days", "7"
    )
    assert made["api_key"].startswith("ag_")
    (shown,) = asked(gateway, "clients", "keys", "ci")
    assert shown["key_id"] == made["key_id"]
    assert (shown["roles"], shown["scopes"]) == (["reader"], ["a:read"])
    assert shown["expires_at"] - shown["created_at"] == 7 * 86_400
    assert made["api_key"] not in json.dumps(shown)


def test_a_key_may_have_no_end(gateway: Gateway) -> None:
    asked(gateway, "clients", "create", "ci")
    assert asked(gateway, "clients", "key", "ci", "--days", "0")["expires_at"] is None


def test_a_key_with_a_role_that_the_client_lacks_is_wrong_usage(gateway: Gateway) -> None:
    asked(gateway, "clients", "create", "ci")
    assert gateway("clients", "key", "ci", "--role", "admin")[0] == USAGE


@pytest.mark.parametrize("words", [["clients", "end-key"], ["revoke", "token"]])
def test_a_key_is_ended_by_its_id_for_good(gateway: Gateway, words: list[str]) -> None:
    asked(gateway, "clients", "create", "ci")
    made = asked(gateway, "clients", "key", "ci")
    assert gateway(*words, made["key_id"])[0] == GOOD
    assert asked(gateway, "clients", "keys", "ci")[0]["ended_at"]


@pytest.mark.parametrize("kind", ["session", "token", "client"])
def test_an_id_that_begins_like_a_call_for_help_is_refused(
    gateway: Gateway, tmp_path: Path, kind: str
) -> None:
    """Random ids begin with any sign of base64url; help would end well and refuse nothing."""
    assert gateway("revoke", kind, "-hAbc", "--unknown")[0] == GOOD
    with sqlite3.connect(next(tmp_path.rglob("gateway.db"))) as database:
        assert database.execute("SELECT kind, target FROM changes").fetchall() == [(kind, "-hAbc")]
    assert gateway("revoke", kind, "-h")[0] == USAGE


def test_revoking_a_client_ends_its_keys(gateway: Gateway) -> None:
    made = asked(gateway, "clients", "create", "ci")
    asked(gateway, "clients", "key", "ci")
    assert gateway("revoke", "client", made["client_id"])[0] == GOOD
    assert asked(gateway, "clients", "keys", "ci")[0]["ended_at"]


def test_a_client_is_erased(gateway: Gateway) -> None:
    asked(gateway, "clients", "create", "ci")
    assert gateway("clients", "delete", "ci", "--yes")[0] == GOOD
    assert asked(gateway, "clients", "list") == []


@pytest.mark.parametrize("words", [["rotate"], ["key"], ["keys"], ["delete", "--yes"]])
def test_a_client_that_is_not_there_is_no(gateway: Gateway, words: list[str]) -> None:
    assert gateway("clients", *words, "nobody")[0] == NO
    assert gateway("clients", "end-key", "key-0")[0] == NO


# --- audit ---


def test_what_an_operator_does_is_in_the_audit_log(gateway: Gateway) -> None:
    made = asked(gateway, "clients", "create", "ci")
    gateway("clients", "delete", "ci", "--yes")
    code, out = gateway("audit", "tail", "--json")
    assert code == GOOD
    events = [json.loads(line) for line in out.splitlines()]
    assert [(e["event"], e.get("subject"), e.get("detail", {}).get("change")) for e in events] == [
        ("writer_started", None, None),
        ("client_changed", made["client_id"], "created"),
        ("writer_started", None, None),
        ("client_changed", made["client_id"], "deleted"),
    ]
    assert all(e["actor"].startswith("cli:") for e in events if e["event"] != "writer_started")


def test_the_export_is_the_whole_log_and_the_tail_its_end(gateway: Gateway) -> None:
    asked(gateway, "clients", "create", "ci")
    for _ in range(3):
        asked(gateway, "clients", "rotate", "ci")
    assert len(gateway("audit", "tail", "--all", "--json")[1].splitlines()) == 8
    code, out = gateway("audit", "tail", "-n", "2")
    assert code == GOOD
    assert len(out.splitlines()) == 2
    assert "client_changed" in out
    assert "heads=3" in out


def test_an_audit_log_that_was_changed_is_no(gateway: Gateway, folder: Path) -> None:
    asked(gateway, "clients", "create", "ci")
    good: Any = {
        "writers": 1,
        "events": 2,
        "pruned_before": None,
        "problems": [],
        "notes": [],
    }
    assert asked(gateway, "audit", "verify") == good
    alter(folder, "UPDATE audit_events SET line = replace(line, 'created', 'nothing')")
    code, out = gateway("audit", "verify")
    assert code == NO
    assert ":2: the row was changed" in out


def test_a_head_of_the_ordinary_log_finds_a_cut(gateway: Gateway, folder: Path) -> None:
    asked(gateway, "clients", "create", "ci")
    last = json.loads(gateway("audit", "tail", "-n", "1", "--json")[1])
    head = f"{last['writer']}:{last['position']}:{last['hash']}"
    assert gateway("audit", "verify", "--head", head)[0] == GOOD
    alter(folder, "DELETE FROM audit_events WHERE position = 2")
    assert gateway("audit", "verify")[0] == GOOD
    assert gateway("audit", "verify", "--head", head)[0] == NO
    assert gateway("audit", "verify", "--head", "nonsense")[0] == USAGE


def test_an_empty_audit_log_is_shown_and_verified(gateway: Gateway) -> None:
    assert gateway("audit", "tail") == (GOOD, "")
    assert gateway("audit", "verify")[0] == GOOD


def test_a_follower_sees_what_comes(gateway: Gateway) -> None:
    asked(gateway, "clients", "create", "ci")
    with subprocess.Popen(
        [sys.executable, "-m", "gateway", "audit", "tail", "--json", "--follow"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    ) as follower:
        try:
            assert follower.stdout is not None
            seen = [json.loads(follower.stdout.readline()) for _ in range(2)]
            asked(gateway, "clients", "rotate", "ci")
            seen += [json.loads(follower.stdout.readline()) for _ in range(2)]
        finally:
            follower.terminate()
    assert [e["event"] for e in seen] == ["writer_started", "client_changed"] * 2


def test_what_operators_do_to_people_and_keys_is_in_the_audit_log(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATEWAY_BCRYPT_ROUNDS", "10")
    user = asked(gateway, "users", "create", "ann@example.com", "--role", "reader")["user_id"]
    for words in (
        ["roles", "grant", "ann@example.com", "writer"],
        ["roles", "revoke", "ann@example.com", "reader"],
        ["users", "disable", "ann@example.com"],
        ["users", "enable", "ann@example.com"],
        ["revoke", "user", "ann@example.com"],
        ["revoke", "token", "some-jti"],
        ["users", "delete", "ann@example.com", "--yes"],
    ):
        assert gateway(*words)[0] == GOOD
    lines = gateway("audit", "tail", "--json")[1].splitlines()
    events = [json.loads(line) for line in lines]
    told = [(e["event"], e.get("subject"), e["detail"]) for e in events if "actor" in e]
    assert told == [
        ("account_changed", user, {"change": "created", "roles": "reader"}),
        ("role_changed", user, {"change": "granted", "role": "writer"}),
        ("role_changed", user, {"change": "revoked", "role": "reader"}),
        ("account_changed", user, {"change": "disabled"}),
        ("account_changed", user, {"change": "enabled"}),
        ("revoked", None, {"change": "subject", "target": user}),
        ("revoked", None, {"change": "token", "target": "some-jti"}),
        ("account_changed", user, {"change": "deleted"}),
    ]
    assert "ann@example.com" not in "".join(lines)
