"""Who may register, and what a refusal tells."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.edge.endpoints.sign_in import Verification
from gateway.identity.accounts.admission import Admission
from gateway.identity.email_address import normalize_domain, normalize_email
from tests.edge.auth_house import PASSWORD, open_house, reason, told

CLOSED = Admission("closed")
INVITED = Admission("invited")
OF_EXAMPLE = Admission("open", frozenset({"example.com", "xn--bcher-kva.example"}))


def who(email: str) -> dict[str, str]:
    return {"email": email, "password": PASSWORD}


@pytest.mark.parametrize("admission", [CLOSED, INVITED], ids=["closed", "invited"])
@pytest.mark.parametrize("verification", ["off", "required"])
async def test_a_stranger_is_told_the_same_of_every_address(
    tmp_path: Path, admission: Admission, verification: Verification
) -> None:
    async with open_house(tmp_path, verification=verification, admission=admission) as house:
        await house.deps.accounts.register("known@example.com", None)
        answers = [
            await house.ask("POST", "/auth/register", who(email))
            for email in ("known@example.com", "unknown@example.com")
        ]
        bodies = [{k: v for k, v in told(a).items() if k != "request_id"} for a in answers]
        assert [a.status for a in answers] == [403, 403]
        assert bodies[0] == bodies[1]
        assert bodies[0]["reason"] == "registration_closed"
        assert await house.deps.accounts.by_email("unknown@example.com") is None


async def test_where_registration_is_closed_nothing_is_read(tmp_path: Path) -> None:
    async with open_house(tmp_path, admission=CLOSED) as house:
        answer = await house.ask("POST", "/auth/register", {"nothing": "of the kind"})
        assert (answer.status, reason(answer)) == (403, "registration_closed")


async def test_a_page_of_another_origin_is_told_that_first(tmp_path: Path) -> None:
    async with open_house(tmp_path, admission=CLOSED) as house:
        answer = await house.ask(
            "POST", "/auth/register", who("a@example.com"), headers=["Sec-Fetch-Site: cross-site"]
        )
        assert reason(answer) == "cross_origin"


@pytest.mark.parametrize(
    "email",
    ["a@example.com", "A@EXAMPLE.COM", "a@Example.Com ", "a@bücher.example", "a@BÜCHER.example",
     "a@xn--bcher-kva.example", "a@ｅｘａｍｐｌｅ.com"],
)  # fmt: skip
async def test_an_address_of_a_listed_domain_is_taken_however_it_is_written(
    tmp_path: Path, email: str
) -> None:
    async with open_house(tmp_path, admission=OF_EXAMPLE) as house:
        answer = await house.ask("POST", "/auth/register", who(email))
        assert answer.status == 201, answer.body


@pytest.mark.parametrize(
    "email",
    ["a@example.com.evil.net", "a@mail.example.com", "a@notexample.com", "a@example.co",
     "a@xn--example-.com", "a@bucher.example", "\"a@example.com\"@evil.net", "a%example.com@evil.net",
     "a@evil.net,b@example.com", "a@exаmple.com", "a@example.com@evil.net", "a@evil.net@example.com"],
)  # fmt: skip
async def test_no_trick_of_writing_makes_another_domain_a_listed_one(
    tmp_path: Path, email: str
) -> None:
    async with open_house(tmp_path, admission=OF_EXAMPLE) as house:
        answer = await house.ask("POST", "/auth/register", who(email))
        assert (answer.status, reason(answer)) in [
            (403, "registration_closed"),
            (422, "body_invalid"),
        ]


async def test_a_refused_domain_tells_nothing_of_accounts(tmp_path: Path) -> None:
    async with open_house(tmp_path, verification="required", admission=OF_EXAMPLE) as house:
        await house.deps.accounts.register("known@other.example", None)
        one = await house.ask("POST", "/auth/register", who("known@other.example"))
        two = await house.ask("POST", "/auth/register", who("unknown@other.example"))
        assert one.status == two.status == 403
        assert told(one)["detail"] == told(two)["detail"]


async def test_an_account_moves_to_no_other_domain(tmp_path: Path) -> None:
    async with open_house(tmp_path, admission=OF_EXAMPLE) as house:
        await house.register()
        token = (await house.sign_in())["access_token"]

        async def moved_to(email: str) -> int:
            body = {"email": email, "password": PASSWORD}
            answer = await house.ask("POST", "/auth/email/change", body, token=token)
            return answer.status

        assert await moved_to("alice@other.example") == 403
        assert await moved_to("alice@bücher.example") == 202


@pytest.mark.parametrize(
    ("text", "domain"),
    [
        ("Example.COM", "example.com"),
        (" bücher.example ", "xn--bcher-kva.example"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("*.example.com", None),
        ("@example.com", None),
        ("a@example.com", None),
        ("example.com.", None),
        ("exa mple.com", None),
        ("[127.0.0.1]", None),
        ("", None),
        ("a" * 300 + ".com", None),
    ],
)
def test_a_domain_is_what_addresses_of_accounts_have(text: str, domain: str | None) -> None:
    assert normalize_domain(text) == domain
    if domain is not None:
        key = normalize_email(f"a@{text.strip()}")
        assert key is not None
        assert Admission("open", frozenset({domain})).takes_domain(key)
