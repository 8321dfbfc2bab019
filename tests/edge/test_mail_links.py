"""Addresses confirmed and passwords reset by mailed links, through real sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from gateway.edge.mail_links import MailLinkParts, MailLinks
from gateway.identity.enrolment import Enrolments
from gateway.identity.letters import Letters
from gateway.identity.mail import MailOptions, Postman
from gateway.stores.protocols import Database
from tests.edge.auth_house import CREDENTIALS, EMAIL, PASSWORD, URL, House, open_house, reason, told
from tests.edge.rig import Answer

OTHER = "seven quiet rivers carry boats"


@dataclass
class MailHouse:
    house: House
    postman: Postman

    async def post(self, path: str, **body: object) -> Answer:
        return await self.house.ask("POST", path, body)

    async def links(self) -> list[str]:
        """The tokens of the letters that wait, newest first."""
        await self.postman.drain()
        letters = [waiting.letter.text for waiting in await self.postman.outbox()]
        return [text.split("#token=")[1].split()[0] for text in letters if "#token=" in text]


@pytest.fixture
async def mail(tmp_path: Path) -> AsyncIterator[MailHouse]:
    async with open_house(tmp_path, verification="required", by_mail=with_mail) as house:
        assert house.postman is not None
        yield MailHouse(house, house.postman)


def with_mail(database: Database) -> tuple[Postman, Enrolments]:
    letters = Letters.load([], site="gate.example", public_url=URL)
    options = MailOptions(sender="no-reply@gate.example", public_url=URL, token_key=b"k" * 32)
    postman = Postman(database, letters, options, None)
    return postman, Enrolments(database, postman)


async def test_registering_says_the_same_for_known_and_unknown_addresses(
    mail: MailHouse,
) -> None:
    await mail.house.register()
    answers = [
        await mail.post("/auth/register", email=email, password=PASSWORD)
        for email in (EMAIL, "new@example.com")
    ]
    assert [answer.status for answer in answers] == [202, 202]
    assert [told(answer) for answer in answers] == [{"status": "verification_sent"}] * 2


async def test_a_confirmed_address_may_sign_in_and_an_unconfirmed_one_not(
    mail: MailHouse,
) -> None:
    await mail.post("/auth/register", **CREDENTIALS)
    early = await mail.post("/auth/login", **CREDENTIALS)
    assert (early.status, reason(early)) == (403, "email_unverified")
    wrong = await mail.post("/auth/login", email=EMAIL, password="wrong one 17")
    assert (wrong.status, reason(wrong)) == (401, "invalid_credentials")
    (token,) = await mail.links()
    answer = await mail.post("/auth/email/verify", token=token)
    assert (answer.status, answer.body) == (204, b"")
    mail.house.clock.move(1)
    assert (await mail.post("/auth/login", **CREDENTIALS)).status == 200


async def test_a_link_works_once(mail: MailHouse) -> None:
    await mail.post("/auth/register", **CREDENTIALS)
    (token,) = await mail.links()
    assert (await mail.post("/auth/email/verify", token=token)).status == 204
    again = await mail.post("/auth/email/verify", token=token)
    assert (again.status, reason(again)) == (400, "invalid_token")


async def test_whoever_registered_an_address_first_has_chosen_nobodys_password(
    mail: MailHouse,
) -> None:
    # An attacker registers the victim's address and waits for the victim to confirm it.
    await mail.post("/auth/register", email=EMAIL, password="the attacker's 7 words")
    await mail.links()
    mail.house.clock.move(1)
    await mail.post("/auth/register", **CREDENTIALS)
    newest, older = await mail.links()
    assert (await mail.post("/auth/email/verify", token=newest)).status == 204
    stolen = await mail.post("/auth/login", email=EMAIL, password="the attacker's 7 words")
    assert stolen.status == 401
    mail.house.clock.move(1)
    assert (await mail.post("/auth/login", **CREDENTIALS)).status == 200
    assert (await mail.post("/auth/email/verify", token=older)).status == 400


async def test_resend_and_forgot_are_always_202(mail: MailHouse) -> None:
    await mail.house.register()
    for path, status in (
        ("/auth/email/resend", "verification_sent"),
        ("/auth/password/forgot", "reset_sent"),
    ):
        for email in (EMAIL, "nobody@example.com"):
            answer = await mail.post(path, email=email)
            assert answer.status == 202
            assert told(answer) == {"status": status}


async def test_a_reset_sets_the_password_ends_every_session_and_lifts_the_lockout(
    mail: MailHouse,
) -> None:
    await mail.house.register()
    session = await mail.house.sign_in()
    for _ in range(6):
        locked = await mail.post("/auth/login", email=EMAIL, password="wrong one 17")
        mail.house.clock.move(8)
    assert locked.status == 429
    await mail.post("/auth/password/forgot", email=EMAIL)
    (token,) = await mail.links()
    weak = await mail.post("/auth/password/reset", token=token, password="password1")
    assert (weak.status, reason(weak)) == (422, "weak_password")
    answer = await mail.post("/auth/password/reset", token=token, password=OTHER)
    assert (answer.status, answer.body) == (204, b"")
    me = await mail.house.ask("GET", "/auth/me", token=session["access_token"])
    assert (me.status, reason(me)) == (401, "token_revoked")
    assert (await mail.post("/auth/login", **CREDENTIALS)).status == 401
    mail.house.clock.move(1)
    assert (await mail.post("/auth/login", email=EMAIL, password=OTHER)).status == 200
    again = await mail.post("/auth/password/reset", token=token, password=PASSWORD)
    assert (again.status, reason(again)) == (400, "invalid_token")


async def test_a_reset_that_no_worker_confirms_says_so(mail: MailHouse) -> None:
    await mail.house.register()
    await mail.post("/auth/password/forgot", email=EMAIL)
    (token,) = await mail.links()
    mail.house.workers.confirm = False
    answer = await mail.post("/auth/password/reset", token=token, password=OTHER)
    assert (answer.status, reason(answer)) == (503, "revocation_pending")


async def test_a_changed_password_ends_the_links_that_could_undo_it(mail: MailHouse) -> None:
    await mail.house.register()
    await mail.post("/auth/password/forgot", email=EMAIL)
    (token,) = await mail.links()
    session = await mail.house.sign_in()
    changed = await mail.house.ask(
        "POST",
        "/auth/password/change",
        {"password": PASSWORD, "new_password": OTHER},
        token=session["access_token"],
    )
    assert changed.status == 204
    answer = await mail.post("/auth/password/reset", token=token, password=PASSWORD)
    assert (answer.status, reason(answer)) == (400, "invalid_token")


@pytest.mark.parametrize("token", ["x", "x" * 43, "'; --", "\u00e9" * 43])
async def test_what_is_no_link_is_400(mail: MailHouse, token: str) -> None:
    verify = await mail.post("/auth/email/verify", token=token)
    reset = await mail.post("/auth/password/reset", token=token, password=OTHER)
    for answer in (verify, reset):
        assert (answer.status, reason(answer)) == (400, "invalid_token")


async def test_a_link_is_good_for_its_purpose_alone(mail: MailHouse) -> None:
    await mail.post("/auth/register", **CREDENTIALS)
    (token,) = await mail.links()
    answer = await mail.post("/auth/password/reset", token=token, password=OTHER)
    assert (answer.status, reason(answer)) == (400, "invalid_token")


async def test_a_disabled_accounts_link_does_nothing(mail: MailHouse) -> None:
    account = await mail.house.register()
    await mail.post("/auth/password/forgot", email=EMAIL)
    (token,) = await mail.links()
    await mail.house.parts.accounts.disable(account.id)
    answer = await mail.post("/auth/password/reset", token=token, password=OTHER)
    assert (answer.status, reason(answer)) == (400, "invalid_token")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/auth/email/verify", {}),
        ("/auth/email/resend", {}),
        ("/auth/email/resend", {"email": "nobody"}),
        ("/auth/password/forgot", {"email": "a@evil@company.com"}),
        ("/auth/password/reset", {"token": "x"}),
    ],
)
async def test_a_wrong_body_is_422_before_anything_is_asked(
    mail: MailHouse, path: str, body: dict[str, object]
) -> None:
    answer = await mail.post(path, **body)
    assert (answer.status, reason(answer)) == (422, "body_invalid")
    assert await mail.postman.drain() == 0


async def test_a_confirmed_address_outdates_the_token_that_says_otherwise(
    tmp_path: Path,
) -> None:
    async with open_house(tmp_path, verification="optional", by_mail=with_mail) as house:
        assert house.postman is not None
        mail = MailHouse(house, house.postman)
        await mail.post("/auth/register", **CREDENTIALS)
        session = await house.sign_in()
        me = told(await house.ask("GET", "/auth/me", token=session["access_token"]))
        assert me["email_verified"] is False
        (token,) = await mail.links()
        assert (await mail.post("/auth/email/verify", token=token)).status == 204
        old = await house.ask("GET", "/auth/me", token=session["access_token"])
        assert (old.status, reason(old)) == (401, "token_outdated")
        fresh = told(await mail.post("/auth/refresh", refresh_token=session["refresh_token"]))
        me = told(await house.ask("GET", "/auth/me", token=fresh["access_token"]))
        assert me["email_verified"] is True


async def test_a_stranger_who_tries_links_waits(mail: MailHouse) -> None:
    for _ in range(50):
        assert (await mail.post("/auth/email/verify", token="x" * 43)).status == 400
    answer = await mail.post("/auth/email/verify", token="x" * 43)
    assert (answer.status, reason(answer)) == (429, "too_many_attempts")
    assert answer.values("retry-after") == [b"900"]


async def test_a_good_link_is_not_refused_for_what_others_at_its_address_have_tried(
    mail: MailHouse,
) -> None:
    await mail.house.register()
    await mail.post("/auth/password/forgot", email=EMAIL)
    (token,) = await mail.links()
    for _ in range(51):
        refused = await mail.post("/auth/password/reset", token="x" * 43, password=OTHER)
    assert refused.status == 429
    assert (await mail.post("/auth/password/reset", token=token, password=OTHER)).status == 204


@pytest.mark.parametrize("full", ["/auth/password/forgot", "/auth/email/resend"])
async def test_no_form_fills_mailboxes(mail: MailHouse, full: str) -> None:
    for n in range(50):
        assert (await mail.post(full, email=f"u{n}@example.com")).status == 202
    answer = await mail.post(full, email=EMAIL)
    assert (answer.status, reason(answer)) == (429, "too_many_attempts")


async def test_who_has_used_up_one_form_has_not_used_up_another(mail: MailHouse) -> None:
    """A neighbour who asks for letters all day keeps nobody from a reset."""
    await mail.house.register()
    for n in range(51):
        answer = await mail.post("/auth/email/resend", email=f"u{n}@example.com")
    assert answer.status == 429
    assert (await mail.post("/auth/password/forgot", email=EMAIL)).status == 202
    assert (await mail.post("/auth/register", **CREDENTIALS)).status == 202


async def test_sql_away_is_503_and_never_202(mail: MailHouse) -> None:
    mail.house.database.away = True
    for path in ("/auth/register", "/auth/password/forgot", "/auth/email/resend"):
        body = CREDENTIALS if path == "/auth/register" else {"email": EMAIL}
        answer = await mail.post(path, **body)
        assert (answer.status, reason(answer)) == (503, "store_unavailable")


def test_mail_links_name_every_endpoint_of_the_contract() -> None:
    parts = MailLinkParts(*[None] * 8)  # type: ignore[arg-type]
    assert set(MailLinks(parts).endpoints()) == {
        ("email", "verify"),
        ("email", "resend"),
        ("password", "forgot"),
        ("password", "reset"),
    }
