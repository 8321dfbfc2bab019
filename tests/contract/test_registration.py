"""A gateway that nobody may register at without being asked, as `gateway serve` is by itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.contract.running import Running, started
from tests.contract.test_mail import link_for
from tests.mailbox import Mailbox, mail_server
from tests.ports import free_port

WHO = {"email": "ann@example.com", "password": "correct horse 7 battery"}


@pytest.fixture(scope="module")
def invited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with started(tmp_path_factory.mktemp("invited") / "g", GATEWAY_REGISTRATION="") as running:
        yield running


def test_serve_lets_no_stranger_register(invited: Running) -> None:
    answer = invited.call("POST", "/auth/register", json_body=WHO)
    assert (answer.status, answer.reason) == (403, "registration_closed")
    made = invited.cli("users", "create", WHO["email"], "--password-stdin", stdin=WHO["password"])
    assert made.returncode == 0, made.stderr
    assert invited.call("POST", "/auth/login", json_body=WHO).status == 200


def test_validate_and_doctor_say_what_every_account_may(invited: Running) -> None:
    def told(mode: str, *words: str) -> str:
        environment = invited.environment | {"GATEWAY_REGISTRATION": mode}
        there = Running(**{**vars(invited), "environment": environment})
        done = there.cli(*words)
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    for mode in ("", "closed"):
        assert "signed-in" not in told(mode, "validate")
    assert " more): `policy: signed-in` allows every account" in told("open", "validate")
    notices = json.loads(told("open", "validate", "--json"))["notices"]
    assert "anybody may make one" in notices[-1]["problem"]
    findings = {mode: json.loads(told(mode, "doctor", "--json")) for mode in ("open", "closed")}
    states = {
        m: next(f for f in found if f["check"] == "registration") for m, found in findings.items()
    }
    assert states["closed"] == {"check": "registration", "state": "good", "detail": "closed"}
    assert states["open"]["state"] == "warning"
    assert "route `me`" in states["open"]["detail"]


PASSWORD = WHO["password"]


@pytest.fixture(scope="module")
def mailing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, Mailbox]]:
    with (
        mail_server(free_port()) as box,
        started(
            tmp_path_factory.mktemp("mailing") / "g",
            GATEWAY_REGISTRATION="invited",
            GATEWAY_EMAIL_VERIFICATION="required",
            GATEWAY_SMTP_URL=f"smtp://127.0.0.1:{box.port}",
            GATEWAY_MAIL_FROM="no-reply@x.example",
        ) as running,
    ):
        yield running, box


def test_the_invited_register_by_the_mail_and_are_confirmed(
    mailing: tuple[Running, Mailbox],
) -> None:
    gateway, box = mailing
    done = gateway.cli("users", "invite", "Bea@x.example", "--role", "buyer", "--json")
    assert done.returncode == 0, done.stderr
    printed = json.loads(done.stdout)
    assert printed["link"] == f"http://127.0.0.1:{gateway.port}/register#token={printed['token']}"
    token = link_for(box, "Bea@x.example", "invited")
    assert token != printed["token"]
    listed = json.loads(gateway.cli("users", "invitations", "--json").stdout)
    assert [(one["email"], one["roles"], one["mail"]) for one in listed] == [
        ("Bea@x.example", ["buyer"], "written")
    ]
    body = {"email": "bea@x.example", "password": PASSWORD, "invitation": token}
    made = gateway.call("POST", "/auth/register", json_body=body)
    assert (made.status, made.json["email_verified"], made.json["roles"]) == (201, True, ["buyer"])
    session = gateway.call(
        "POST", "/auth/login", json_body={"email": "bea@x.example", "password": PASSWORD}
    )
    assert session.json["user"]["roles"] == ["buyer"]
    late = gateway.call("POST", "/auth/register", json_body=body | {"invitation": printed["token"]})
    assert (late.status, late.reason) == (403, "registration_closed")
    assert json.loads(gateway.cli("users", "invitations", "--json").stdout) == []


def test_a_printed_link_waits_for_the_letter_that_confirms_the_address(
    mailing: tuple[Running, Mailbox],
) -> None:
    gateway, box = mailing
    done = gateway.cli("users", "invite", "cid@x.example", "--no-mail", "--json")
    token = json.loads(done.stdout)["token"]
    me = {"email": "cid@x.example", "password": PASSWORD}
    made = gateway.call("POST", "/auth/register", json_body=me | {"invitation": token})
    assert (made.status, made.json["email_verified"]) == (201, False)
    early = gateway.call("POST", "/auth/login", json_body=me)
    assert (early.status, early.reason) == (403, "email_unverified")
    link = {"token": link_for(box, "cid@x.example", "Confirm"), "password": PASSWORD}
    assert gateway.call("POST", "/auth/email/verify", json_body=link).status == 204
    assert gateway.call("POST", "/auth/login", json_body=me).status == 200


def test_two_who_race_with_one_invitation_get_one_account(
    mailing: tuple[Running, Mailbox],
) -> None:
    gateway, _ = mailing
    done = gateway.cli("users", "invite", "dan@x.example", "--no-mail", "--verified", "--json")
    token = json.loads(done.stdout)["token"]

    def attempt(number: int) -> int:
        body = {"email": "dan@x.example", "password": f"{PASSWORD} {number}", "invitation": token}
        return gateway.call("POST", "/auth/register", json_body=body).status

    with ThreadPoolExecutor(6) as pool:
        statuses = sorted(pool.map(attempt, range(6)))
    assert statuses[0] == 201
    assert set(statuses[1:]) <= {403, 503}


def test_an_invitation_is_revoked_and_what_could_not_be_used_is_not_made(
    mailing: tuple[Running, Mailbox],
) -> None:
    gateway, _ = mailing
    done = gateway.cli("users", "invite", "eva@x.example", "--no-mail", "--json")
    assert gateway.cli("users", "revoke-invitation", "EVA@x.example").returncode == 0
    again = gateway.cli("users", "revoke-invitation", "eva@x.example")
    assert (again.returncode, "has no invitation" in again.stderr) == (1, True)
    body = {"email": "eva@x.example", "password": PASSWORD}
    body["invitation"] = json.loads(done.stdout)["token"]
    assert gateway.call("POST", "/auth/register", json_body=body).reason == "registration_closed"
    for settings in (
        {"GATEWAY_REGISTRATION": "closed"},
        {"GATEWAY_REGISTRATION_DOMAINS": "example.com"},
    ):
        there = Running(**{**vars(gateway), "environment": gateway.environment | settings})
        refused = there.cli("users", "invite", "eva@x.example")
        assert refused.returncode == 2
        assert next(iter(settings)) in refused.stderr
    for words in (["not an address"], ["eva@x.example", "--role", "no role"]):
        assert gateway.cli("users", "invite", *words).returncode == 2
    told = gateway.cli("audit", "tail", "--json").stdout
    assert "eva@x.example" not in told
    assert "invitation revoked" in told
