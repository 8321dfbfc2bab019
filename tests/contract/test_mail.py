"""A started gateway that verifies addresses, and a mail server that it really talks to."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.contract.running import Running, started, wait_as_told
from tests.mailbox import Mailbox, body_of, mail_server
from tests.ports import free_port

PASSWORD = "correct horse 7 battery"
OTHER = "seven quiet rivers carry boats"


@pytest.fixture(scope="module")
def mailing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, Mailbox]]:
    folder: Path = tmp_path_factory.mktemp("mailing") / "g"
    with (
        mail_server(free_port()) as box,
        started(
            folder,
            GATEWAY_EMAIL_VERIFICATION="required",
            GATEWAY_SMTP_URL=f"smtp://127.0.0.1:{box.port}",
            GATEWAY_MAIL_FROM="no-reply@x.example",
        ) as running,
    ):
        yield running, box


def wait_for(condition: Callable[[], bool], within_s: float = 20) -> None:
    """A mail arrives in another process: there is no event to wait for."""
    deadline = threading.Event()
    timer = threading.Timer(within_s, deadline.set)
    timer.start()
    try:
        while not condition():
            assert not deadline.wait(0.02), "no mail in time"
    finally:
        timer.cancel()


def link_for(box: Mailbox, recipient: str, subject: str) -> str:
    def found() -> list[str]:
        return [
            link
            for mail in box.mails
            if mail["To"] == recipient and subject in mail["Subject"]
            for link in re.findall(r"#token=(\S+)", body_of(mail))
        ]

    wait_for(lambda: bool(found()))
    return found()[-1]


def test_register_verify_sign_in_forget_and_reset_by_real_mail(
    mailing: tuple[Running, Mailbox],
) -> None:
    gateway, box = mailing
    me = {"email": "Ann@x.example", "password": PASSWORD}
    registered = gateway.call("POST", "/auth/register", json_body=me)
    assert (registered.status, registered.json) == (202, {"status": "verification_sent"})
    early = gateway.call("POST", "/auth/login", json_body=me)
    assert (early.status, early.reason) == (401, "invalid_credentials")
    token = link_for(box, "Ann@x.example", "Confirm")
    wrong = {"token": token, "password": OTHER}
    refused = gateway.call("POST", "/auth/email/verify", json_body=wrong)
    assert (refused.status, refused.reason) == (401, "invalid_credentials")
    link = {"token": token, "password": PASSWORD}
    assert gateway.call("POST", "/auth/email/verify", json_body=link).status == 204
    again = gateway.call("POST", "/auth/email/verify", json_body=link)
    assert (again.status, again.reason) == (400, "invalid_token")
    session = gateway.call("POST", "/auth/login", json_body=me)
    assert session.status == 200
    assert (session.get("set-cookie") or "").startswith("__Host-device=")
    forgot = gateway.call("POST", "/auth/password/forgot", json_body={"email": "ann@x.example"})
    unknown = gateway.call("POST", "/auth/password/forgot", json_body={"email": "n@x.example"})
    assert (forgot.status, forgot.body) == (unknown.status, unknown.body) == (202, forgot.body)
    reset = {"token": link_for(box, "Ann@x.example", "new password"), "password": OTHER}
    assert gateway.call("POST", "/auth/password/reset", json_body=reset).status == 204
    dead = gateway.call("GET", "/me", token=session.json["access_token"])
    assert (dead.status, dead.reason) == (401, "token_revoked")
    assert gateway.call("POST", "/auth/login", json_body={**me, "password": OTHER}).status == 200
    wait_for(lambda: any("was changed" in mail["Subject"] for mail in box.mails))
    assert all(mail["From"] == "no-reply@x.example" for mail in box.mails)
    assert not any("n@x.example" in recipients for recipients in box.recipients)


def test_an_address_in_any_script_registers_and_is_confirmed(
    mailing: tuple[Running, Mailbox],
) -> None:
    gateway, box = mailing
    me = {"email": "jürgen@bücher.example", "password": PASSWORD}
    assert gateway.call("POST", "/auth/register", json_body=me).status == 202
    recipient = "jürgen@xn--bcher-kva.example"
    wait_for(lambda: [recipient] in box.recipients)
    mail = box.mails[box.recipients.index([recipient])]
    (token,) = re.findall(r"#token=(\S+)", body_of(mail))
    link = {"token": token, "password": PASSWORD}
    assert gateway.call("POST", "/auth/email/verify", json_body=link).status == 204
    assert gateway.call("POST", "/auth/login", json_body=me).status == 200


def test_no_link_password_or_token_is_in_the_log(mailing: tuple[Running, Mailbox]) -> None:
    gateway, box = mailing
    me = {"email": "log@x.example", "password": PASSWORD}
    gateway.call("POST", "/auth/register", json_body=me)
    token = link_for(box, "log@x.example", "Confirm")
    gateway.call("POST", "/auth/email/verify", json_body={"token": token, "password": PASSWORD})
    session = gateway.call("POST", "/auth/login", json_body=me).json
    log = gateway.log.read_text()
    for secret in (token, PASSWORD, session["access_token"], session["refresh_token"]):
        assert secret not in log


def test_three_failures_ask_for_a_challenge(mailing: tuple[Running, Mailbox]) -> None:
    gateway, _ = mailing
    body = {"email": "nobody@x.example", "password": "wrong one 17"}
    statuses = []
    for _ in range(3):
        answer = gateway.call("POST", "/auth/login", json_body=body)
        statuses.append(answer.status)
        early = gateway.call("POST", "/auth/login", json_body=body)
        assert (early.status, early.reason) == (429, "too_many_attempts")
        wait_as_told(early)
    assert statuses == [401, 401, 401]
    answers = [gateway.call("POST", "/auth/login", json_body=body) for _ in range(3)]
    assert [a.status for a in answers] == [403, 403, 429]
    assert answers[0].reason == "captcha_required"
    challenge = gateway.call("GET", "/auth/captcha")
    assert challenge.status == 200
    assert challenge.get("cache-control") == "no-store"
    assert set(challenge.json) == {"parameters", "signature"}


def test_an_owners_reset_outlasts_the_changes_that_a_thief_has_under_way(
    mailing: tuple[Running, Mailbox],
) -> None:
    gateway, box = mailing
    email, owners = "eve@x.example", "the owner's 4 rivers again"
    made = gateway.cli("users", "create", email, "--verified", "--password-stdin", stdin=PASSWORD)
    assert made.returncode == 0, made.stderr
    thief = gateway.call("POST", "/auth/login", json_body={"email": email, "password": PASSWORD})
    gateway.call("POST", "/auth/password/forgot", json_body={"email": email})
    reset = {"token": link_for(box, email, "new password"), "password": owners}
    answers = []

    def change(number: int) -> None:
        body = {"password": PASSWORD, "new_password": f"the thief's {number} quiet words"}
        token = thief.json["access_token"]
        answers.append(gateway.call("POST", "/auth/password/change", token=token, json_body=body))

    threads = [threading.Thread(target=change, args=(number,)) for number in range(5)]
    for thread in threads:
        thread.start()
    done = gateway.call("POST", "/auth/password/reset", json_body=reset)
    for thread in threads:
        thread.join()
    assert done.status == 204
    assert [answer.status for answer in answers].count(204) <= 1
    owner = gateway.call("POST", "/auth/login", json_body={"email": email, "password": owners})
    assert owner.status == 200
    assert gateway.call("GET", "/me", token=thief.json["access_token"]).status == 401
