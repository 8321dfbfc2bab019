"""Signing in and calling as a browser does, with the session cookie."""

from __future__ import annotations

from gateway.access.definitions import Cors
from gateway.identity.sign_in.session_cookies import EXPIRED, CookieMint
from gateway.stores.redis import RedisStore
from tests.edge.auth_house import CREDENTIALS, House
from tests.edge.rig import Answer

SAME = "Sec-Fetch-Site: same-origin"
MINT = CookieMint(b"m" * 32)
"""As the house's own: a cookie that was given, and holds nothing."""


APP = "https://app.example"
CORS = Cors("app", frozenset({APP}), True, ("GET", "POST"))


async def signed_in(house: House, *headers: str) -> tuple[str, Answer]:
    """The cookie's value, and the whole answer."""
    answer = await house.ask(
        "POST", "/auth/login", {**CREDENTIALS, "transport": "cookie"}, headers=headers
    )
    assert answer.status == 200, answer.body
    (line,) = [v for v in answer.values("set-cookie") if v.startswith(b"__Host-session=")]
    return line.split(b";")[0].removeprefix(b"__Host-session=").decode(), answer


async def ask(
    house: House, method: str, path: str, cookie: str, *headers: str, body: object = None
) -> Answer:
    sent = [f"Cookie: __Host-session={cookie}", *(headers or (SAME,))]
    return await house.ask(method, path, body, headers=sent)


async def empty(redis: RedisStore) -> None:
    for key in await redis.call("KEYS", f"{redis.prefix}*"):
        await redis.call("DEL", key)


def expires(answer: Answer) -> bool:
    return EXPIRED.encode() in answer.values("set-cookie")
