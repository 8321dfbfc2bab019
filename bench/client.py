"""What the benches say to a gateway: sign in, call, refresh, sign out, with the time it took."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from aiohttp import ClientSession, ClientTimeout, TCPConnector


@dataclass
class Signed:
    access_token: str
    refresh_token: str


class UnexpectedAnswer(RuntimeError):
    """The gateway answered otherwise than the bench can go on with."""


@dataclass
class Times:
    """Seconds that each kind of call took."""

    seconds: dict[str, list[float]] = field(default_factory=dict)

    def add(self, kind: str, seconds: float) -> None:
        self.seconds.setdefault(kind, []).append(seconds)


class Caller:
    """One keep-alive connection to one node."""

    def __init__(self, url: str, times: Times) -> None:
        self._url = url
        self._times = times
        self._session = ClientSession(
            connector=TCPConnector(limit=1), timeout=ClientTimeout(total=30)
        )

    async def login(self, email: str, password: str) -> Signed:
        body = {"email": email, "password": password}
        status, answer = await self._timed("login", "POST", "/auth/login", json=body)
        return self._signed(status, answer)

    async def refresh(self, refresh_token: str) -> Signed:
        body = {"refresh_token": refresh_token}
        status, answer = await self._timed("refresh", "POST", "/auth/refresh", json=body)
        return self._signed(status, answer)

    async def logout(self, access_token: str) -> int:
        headers = {"Authorization": f"Bearer {access_token}"}
        status, _ = await self._timed("logout", "POST", "/auth/logout", headers=headers)
        return status

    async def call(self, access_token: str, path: str = "/api/whoami") -> int:
        headers = {"Authorization": f"Bearer {access_token}"}
        status, _ = await self._timed("check", "GET", path, headers=headers)
        return status

    async def close(self) -> None:
        await self._session.close()

    async def _timed(self, kind: str, method: str, path: str, **what: Any) -> tuple[int, Any]:
        began = time.perf_counter()
        async with self._session.request(method, self._url + path, **what) as answer:
            body = await answer.read()
            self._times.add(kind, time.perf_counter() - began)
            if answer.status == 200 and path.startswith("/auth/"):
                return answer.status, await answer.json()
            return answer.status, body

    def _signed(self, status: int, answer: Any) -> Signed:
        if status != 200:
            raise UnexpectedAnswer(f"{status}: {answer[:300]!r}")
        return Signed(answer["access_token"], answer["refresh_token"])
