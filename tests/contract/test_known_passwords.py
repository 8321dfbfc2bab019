"""A list imported while the gateway runs, and asked wherever a password is chosen."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from tests.contract.running import Running

WORLD_KNOWS = "tangerine walrus 41 pontoon"
NOT_YET = "tangerine walrus 42 pontoon"


def line_of(password: str) -> str:
    digest = hashlib.sha1(password.encode(), usedforsecurity=False).hexdigest().upper()
    return f"{digest}:12\n"


@pytest.fixture(scope="module")
def importing(gateway: Running) -> Running:
    gateway.sign_in("known@example.com", WORLD_KNOWS)  # before anybody knew
    (gateway.folder / "list.txt").write_text(line_of(WORLD_KNOWS))
    done = gateway.cli("passwords", "import", "list.txt", "--json")
    assert done.returncode == 0, done
    facts = json.loads(done.stdout)
    assert (facts["hash"], facts["count"]) == ("sha1", 1)
    assert facts["false_positive_rate"] == 2**-48
    return gateway


def test_no_password_of_the_list_can_be_registered_and_every_other_can(importing: Running) -> None:
    for number, (password, status) in enumerate(((WORLD_KNOWS, 422), (NOT_YET, 201))):
        body = {"email": f"new{number}@example.com", "password": password}
        answer = importing.call("POST", "/auth/register", json_body=body)
        assert answer.status == status, answer
    body = {"email": "new0@example.com", "password": WORLD_KNOWS}
    refused = importing.call("POST", "/auth/register", json_body=body)
    assert refused.reason == "weak_password"
    assert "list of passwords that the world knows" in refused.json["detail"]


def test_nor_can_one_be_changed_to_it(importing: Running) -> None:
    user = importing.sign_in("changing@example.com", NOT_YET)
    answer = importing.call(
        "POST",
        "/auth/password/change",
        token=user["access_token"],
        json_body={"password": NOT_YET, "new_password": WORLD_KNOWS},
    )
    assert (answer.status, answer.reason) == (422, "weak_password")


def test_nor_does_an_operator_make_an_account_with_it(importing: Running) -> None:
    made = importing.cli(
        "users", "create", "made@example.com", "--password-stdin", stdin=WORLD_KNOWS + "\n"
    )
    assert made.returncode == 1
    assert "the world knows" in made.stderr


def test_who_has_it_already_still_signs_in(importing: Running) -> None:
    assert importing.sign_in("known@example.com", WORLD_KNOWS)["access_token"]


def test_the_list_can_be_asked_by_hand(importing: Running) -> None:
    known = importing.cli("passwords", "check", stdin=WORLD_KNOWS + "\n")
    assert (known.returncode, known.stdout.strip()) == (1, "known to the world")
    good = importing.cli("passwords", "check", "--json", stdin=NOT_YET + "\n")
    assert (good.returncode, json.loads(good.stdout)) == (0, {"known": False})
    told = importing.cli("passwords", "status")
    assert "1 of 281,474,976,710,656" in told.stdout, told


def test_another_list_takes_its_place_at_once(importing: Running) -> None:
    body = {"email": "later@example.com", "password": NOT_YET}
    piped = importing.cli("passwords", "import", "-", stdin=line_of(NOT_YET))
    assert piped.returncode == 0, piped
    assert importing.call("POST", "/auth/register", json_body=body).reason == "weak_password"
    kept = Path(importing.environment["GATEWAY_DATA_DIR"]) / "known-passwords"
    assert kept.stat().st_mode & 0o777 == 0o600


def test_what_is_no_list_is_named_with_its_line(importing: Running) -> None:
    (importing.folder / "wrong.txt").write_text(line_of("a") + "password123\n")
    wrong = importing.cli("passwords", "import", "wrong.txt")
    assert wrong.returncode == 1
    assert "wrong.txt: line 2 is no hash of SHA-1" in wrong.stderr
    missing = importing.cli("passwords", "import", "nowhere.txt")
    assert (missing.returncode, "nowhere.txt: No such file" in missing.stderr) == (1, True)
    empty = {**importing.environment, "GATEWAY_DATA_DIR": str(importing.folder / "no-data")}
    importing.environment, kept = empty, importing.environment
    try:
        none = importing.cli("passwords", "status")
    finally:
        importing.environment = kept
    assert none.returncode == 1
    assert "gateway passwords import FILE" in none.stderr
