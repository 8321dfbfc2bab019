"""`gateway revoke session|token|client ID`: what is no id is refused, and what was done is told."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from gateway.cli import main
from gateway.identity.base64url import encoded
from tests.cli.installed import GOOD, NO, USAGE, Gateway

SECRET = "s3cr3t-of-43-letters-as-our-tokens-and-links"[:43]
UNKNOWN_KEY = "ag_" + "0" * 43 + "000000"


def token(**claims: Any) -> str:
    """Signed by nobody: what is asked for here needs no signature."""
    parts = ({"alg": "EdDSA", "typ": "at+jwt"}, claims)
    return ".".join([*(encoded(json.dumps(one).encode()) for one in parts), "c2ln"])


WHOLE = token(jti="its-jti", sid="its-sid", client_id="its-client")


def made_key(gateway: Gateway) -> dict[str, Any]:
    code, client = gateway("clients", "create", "ci", "--json")
    assert code == GOOD
    code, key = gateway("clients", "key", "ci", "--json")
    assert code == GOOD
    return {**json.loads(client), **json.loads(key)}


def ended(gateway: Gateway) -> bool:
    (shown,) = json.loads(gateway("clients", "keys", "ci", "--json")[1])
    return bool(shown["ended_at"])


def is_nowhere(folder: Path, *texts: str) -> bool:
    """In no file of the installation: its database, its journals, its logs."""
    files = [path.read_bytes() for path in folder.rglob("*") if path.is_file()]
    return not any(text.encode() in one for text in texts for one in files)


def changes(folder: Path) -> list[tuple[str, str]]:
    with sqlite3.connect(folder / "gateway.db") as connection:
        return connection.execute("SELECT kind, target FROM changes").fetchall()


def test_a_client_is_revoked_by_its_name_too(gateway: Gateway) -> None:
    """As every other command about clients takes it, and whoever is in a hurry writes it."""
    made = made_key(gateway)
    assert gateway("revoke", "client", "ci") == (GOOD, f"revoked: ci ({made['client_id']})\n")
    assert ended(gateway)


def test_an_id_counts_before_a_name(gateway: Gateway) -> None:
    made = made_key(gateway)
    gateway("clients", "create", made["client_id"])
    assert gateway("revoke", "client", made["client_id"])[0] == GOOD
    assert ended(gateway)


@pytest.mark.parametrize("name", ["cj", "client-ffffffffffffffffffff"])
def test_a_client_that_nobody_knows_is_not_said_to_be_revoked(
    gateway: Gateway, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    made_key(gateway)
    capsys.readouterr()
    assert main(["revoke", "client", name]) == NO
    said = capsys.readouterr()
    assert (said.out, "`gateway clients list`" in said.err) == ("", True)
    assert not ended(gateway)
    # A token of an imported key may name a client that has never been here.
    code, out = gateway("revoke", "client", name, "--unknown")
    assert (code, "no client of this id is known here" in out) == (GOOD, True)


@pytest.mark.parametrize("words", [["revoke", "token"], ["clients", "end-key"]])
def test_a_whole_key_is_ended_and_kept_nowhere(
    gateway: Gateway, folder: Path, words: list[str]
) -> None:
    """Whoever finds one in a log has its text and not its id."""
    made = made_key(gateway)
    code, out = gateway(*words, made["api_key"])
    assert (code, made["api_key"] in out) == (GOOD, False)
    if words[0] == "revoke":
        assert out == f"revoked: the API key {made['key_id']}\n"
    assert ended(gateway)
    assert is_nowhere(folder, made["api_key"])


@pytest.mark.parametrize("words", [["revoke", "token"], ["clients", "end-key"]])
@pytest.mark.parametrize("change", [lambda key: UNKNOWN_KEY, lambda key: key[:-1]])
def test_a_key_that_there_is_not_is_not_said_to_be_ended(
    gateway: Gateway, folder: Path, words: list[str], change: Any
) -> None:
    """Nor kept: with a slip of the hand in it, it is a secret all the same."""
    made = made_key(gateway)
    text = change(made["api_key"])
    code, out = gateway(*words, text)
    assert (code, out) == (NO, "")
    assert not ended(gateway)
    assert is_nowhere(folder, text)


@pytest.mark.parametrize("kind", ["session", "token", "client"])
@pytest.mark.parametrize(
    ("text", "says"),
    [
        (WHOLE, "this is a whole token"),
        (token(), "this is a whole token"),
        ("eyJhbGciOiJub25lIn0.e30.", "this is a whole token"),
        ("eyJhbGciOiJkaXIifQ..aXY.Y3Q.dGFn", "this is a whole token"),
        (token(jti=SECRET, sid=SECRET, client_id=SECRET), "this is a whole token"),
        (SECRET, "the form of a refresh token, a cookie or a secret"),
        (f"Bearer:{SECRET}", "the form of a refresh token, a cookie or a secret"),
        (SECRET + "0123456789a", "the form of a refresh token, a cookie or a secret"),
        (SECRET + "0123456789a" * 2, "the form of a refresh token, a cookie or a secret"),
        ("a b", "an id is 1 to 128"),
    ],
)
def test_what_has_the_form_of_a_secret_is_neither_kept_nor_repeated(
    gateway: Gateway,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    kind: str,
    text: str,
    says: str,
) -> None:
    capsys.readouterr()
    assert main(["revoke", kind, text]) == USAGE
    said = capsys.readouterr()
    assert says in said.err
    assert text not in said.out + said.err
    assert SECRET not in said.out + said.err
    assert is_nowhere(folder, text)


@pytest.mark.parametrize(
    ("kind", "name"), [("session", "its-sid"), ("token", "its-jti"), ("client", "its-client")]
)
def test_of_a_whole_token_the_command_with_its_id_is_shown(
    gateway: Gateway, capsys: pytest.CaptureFixture[str], kind: str, name: str
) -> None:
    capsys.readouterr()
    assert main(["revoke", kind, WHOLE]) == USAGE
    assert f"`gateway revoke {kind} {name}`" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["session", "client"])
def test_a_key_in_the_place_of_another_id_is_led_to_what_ends_it(
    gateway: Gateway, folder: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    made = made_key(gateway)
    capsys.readouterr()
    assert main(["revoke", kind, made["api_key"]]) == USAGE
    said = capsys.readouterr().err
    assert ("`gateway revoke token`" in said, made["api_key"] in said) == (True, False)
    assert is_nowhere(folder, made["api_key"])


@pytest.mark.parametrize("kind", ["session", "client"])
@pytest.mark.parametrize(
    "before", ["company:", "other:", "Bearer:", "x.", "x", "-", "a" * 20 + "@"]
)
def test_a_key_with_anything_before_it_is_one_all_the_same(
    gateway: Gateway, folder: Path, capsys: pytest.CaptureFixture[str], kind: str, before: str
) -> None:
    made = made_key(gateway)
    slips = [made["api_key"][:-2], made["api_key"][:30] + "-" + "x" * 18]
    for options in ([], ["--unknown"]):
        # Within a word a slip may be an id of its own.
        for key in (made["api_key"], *(slips if before != "x" else ())):
            capsys.readouterr()
            assert main(["revoke", kind, before + key, *options]) == USAGE
            said = capsys.readouterr()
            assert key not in said.out + said.err
            assert is_nowhere(folder, key)


@pytest.mark.parametrize(
    "text", ["Bearer:{}", "company:{}", "x.{}", " {}\n", "Authorization: Bearer {}"]
)
def test_a_leaked_key_is_ended_as_it_stands_in_a_log(
    gateway: Gateway, folder: Path, text: str
) -> None:
    made = made_key(gateway)
    said = gateway("revoke", "token", text.format(made["api_key"]))
    assert said == (GOOD, f"revoked: the API key {made['key_id']}\n")
    assert ended(gateway)
    assert is_nowhere(folder, made["api_key"])


@pytest.mark.parametrize("kind", ["session", "token"])
@pytest.mark.parametrize(
    "name", ["ag_Q7dZ0c1kXyPz0w3m4A5", "agp_Q7dZ0c1kXyPz0w3mA5", "ag_x", "x.ag_y"]
)
def test_an_id_that_begins_as_a_key_does_is_revoked(
    gateway: Gateway, folder: Path, kind: str, name: str
) -> None:
    """Ids of ours are random letters."""
    assert gateway("revoke", kind, name)[0] == GOOD
    assert changes(folder) == [(kind, name)]


@pytest.mark.parametrize("kind", ["session", "token", "client"])
def test_what_may_be_part_of_a_key_is_an_id_to_who_says_so(
    gateway: Gateway, folder: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    part = made_key(gateway)["api_key"][:40]
    capsys.readouterr()
    assert main(["revoke", kind, part]) == USAGE
    assert "--unknown" in capsys.readouterr().err
    assert is_nowhere(folder, part)
    assert gateway("revoke", kind, part, "--unknown")[0] == GOOD
    assert changes(folder) == [(kind, part)]


def test_a_key_without_its_prefix_has_the_form_of_a_secret(gateway: Gateway, folder: Path) -> None:
    bare = made_key(gateway)["api_key"].removeprefix("ag_")
    assert gateway("revoke", "token", bare)[0] == USAGE
    assert is_nowhere(folder, bare)


def test_who_would_end_a_personal_key_among_those_of_clients_is_shown_the_command(
    gateway: Gateway, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made_key(gateway)
    key = "agp_" + UNKNOWN_KEY.removeprefix("ag_")
    capsys.readouterr()
    assert main(["clients", "end-key", key]) == NO
    said = capsys.readouterr().err
    assert ("`gateway revoke token`" in said, key in said) == (True, False)


@pytest.mark.parametrize("kind", ["session", "token", "client"])
def test_a_token_with_anything_before_it_is_one_all_the_same(
    gateway: Gateway, folder: Path, kind: str
) -> None:
    for before in ("other:", "Bearer:", "x."):
        assert gateway("revoke", kind, before + WHOLE, "--unknown")[0] == USAGE
    assert is_nowhere(folder, WHOLE)


@pytest.mark.parametrize("kind", ["session", "token"])
def test_an_address_is_no_id(
    gateway: Gateway, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    capsys.readouterr()
    assert main(["revoke", kind, "ann@example.com"]) == USAGE
    said = capsys.readouterr()
    assert (said.out, "`gateway revoke user EMAIL`" in said.err) == ("", True)


@pytest.mark.parametrize(
    ("kind", "says"),
    [("session", "no session of this id is known here"), ("token", "no API key has this id")],
)
def test_what_was_done_is_told(gateway: Gateway, kind: str, says: str) -> None:
    """Tokens are not kept here, and those of an imported key have sessions of their own."""
    code, out = gateway("revoke", kind, "x-1")
    assert (code, out.startswith("revoked: "), says in out) == (GOOD, True, True)
    assert gateway("revoke", kind, "x-1")[0] == GOOD


@pytest.mark.parametrize("kind", ["session", "token", "client"])
def test_an_id_of_any_form_is_taken_from_who_says_that_it_is_one(
    gateway: Gateway, kind: str
) -> None:
    assert gateway("revoke", kind, SECRET, "--unknown")[0] == GOOD


@pytest.mark.parametrize("word", ["flag_", "tag_", "diag_", "xagp_"])
def test_what_ends_like_the_prefix_of_a_key_begins_an_id(gateway: Gateway, word: str) -> None:
    text = word + "0123456789abcdef" * 4
    assert gateway("revoke", "session", f"company:{text}")[0] == GOOD
    assert gateway("revoke", "token", text, "--unknown")[0] == GOOD
