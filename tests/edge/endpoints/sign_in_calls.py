"""Sign-ins right and wrong, the device cookie that they give, and the letters that follow."""

from __future__ import annotations

import re

from tests.edge.auth_house import EMAIL, PASSWORD, House
from tests.edge.rig import Answer

WRONG = {"email": EMAIL, "password": "wrong one 17"}
OTHER = "another horse 8 battery"


async def login(house: House, body: dict[str, str], cookie: str | None = None) -> Answer:
    headers = [f"Cookie: __Host-device={cookie}"] if cookie else []
    return await house.ask("POST", "/auth/login", body, headers=headers)


def device_of(answer: Answer) -> str:
    (line,) = [c.decode() for c in answer.values("set-cookie") if c.startswith(b"__Host-device=")]
    return line.partition(";")[0].partition("=")[2]


async def letters(house: House) -> list[tuple[str, str]]:
    """Recipient and text."""
    await house.deps.mailer.drain()
    return [(mail.recipient, mail.content.text) for mail in await house.deps.mailer.waiting_mail()]


async def link_to(house: House, recipient: str) -> str:
    (text,) = [text for to, text in await letters(house) if to == recipient and "#token=" in text]
    match = re.search(r"#token=(\S+)", text)
    assert match is not None
    return match[1]


async def patiently(house: House, body: dict[str, str], times: int) -> list[int]:
    """Each as soon as the one before lets it in."""
    statuses = []
    for _ in range(times):
        statuses.append((await login(house, body)).status)
        house.clock.move(8)
    return statuses


async def asked_to_move(house: House, token: str, email: str, password: str = PASSWORD) -> Answer:
    body = {"password": password, "email": email}
    return await house.ask("POST", "/auth/email/change", body, token=token)
