"""What a page does with passkeys, over the endpoints."""

from __future__ import annotations

from typing import Any

from gateway.model import Reason
from tests.authenticator import Authenticator
from tests.edge.auth_house import House, reason, told
from tests.edge.rig import Answer

PASSKEYS = "/auth/factors/passkeys"
SIGN_IN = "/auth/login/passkey"


async def token_of(house: House) -> str:
    return str((await house.sign_in())["access_token"])


async def asked_to_register(house: House, token: str) -> dict[str, Any]:
    answer = await house.ask("POST", f"{PASSKEYS}/options", token=token)
    assert answer.status == 200, answer.body
    return told(answer)


async def register(house: House, authenticator: Authenticator, token: str, **fields: Any) -> Answer:
    options = await asked_to_register(house, token)
    body = {
        "challenge_token": options["challenge_token"],
        "credential": authenticator.create(options["public_key"]),
    }
    return await house.ask("POST", PASSKEYS, {**body, **fields}, token=token)


async def add_passkey(
    house: House, authenticator: Authenticator, token: str | None = None
) -> dict[str, Any]:
    answer = await register(house, authenticator, token or await token_of(house))
    assert answer.status == 200, answer.body
    return dict(told(answer)["passkey"])


async def asked_to_sign_in(house: House) -> dict[str, Any]:
    answer = await house.ask("POST", f"{SIGN_IN}/options")
    assert answer.status == 200, answer.body
    return told(answer)


async def sign_in(house: House, authenticator: Authenticator, **fields: Any) -> Answer:
    options = await asked_to_sign_in(house)
    body = {
        "challenge_token": options["challenge_token"],
        "credential": authenticator.get(options["public_key"]),
    }
    return await house.ask("POST", SIGN_IN, {**body, **fields})


async def signed_in_by_passkey(house: House, authenticator: Authenticator) -> str:
    answer = await sign_in(house, authenticator)
    assert answer.status == 200, answer.body
    return str(told(answer)["access_token"])


async def outbox(house: House) -> list[str]:
    """The templates of the mails that were queued, sorted."""
    async with house.database.read_transaction() as tx:
        rows = await tx.all("SELECT template FROM outbox ORDER BY template")
    return [str(row["template"]) for row in rows]


def is_refused(answer: Answer) -> bool:
    return (answer.status, reason(answer)) == (401, "invalid_credentials")


def claims(house: House, token: str) -> dict[str, Any]:
    principal = house.deps.verifier.verify(token)
    assert not isinstance(principal, Reason)
    return dict(principal.claims)
