"""People who sign in with their passwords, or refresh: each again once they are answered.

    python -m bench.scenarios.clients.sign_ins PORT TOKENS sign-in|refresh SECONDS PEOPLE PASSWORD

Each comes from a network of their own, by the word of a proxy that is trusted.
"""

from __future__ import annotations

import asyncio
import sys
import time
from dataclasses import dataclass, field
from typing import Any

import uvloop
from aiohttp import ClientSession, ClientTimeout, TCPConnector

from bench.scenarios.clients import result


def email_of(number: int) -> str:
    return f"person{number}@example.com"


@dataclass
class Person:
    number: int
    url: str
    password: str
    session: ClientSession
    refresh_token: str = ""
    seconds: list[float] = field(default_factory=list)
    refused: int = 0

    async def sign_in(self) -> None:
        body = {"email": email_of(self.number), "password": self.password}
        await self._send("/auth/login", body)

    async def refresh(self) -> None:
        await self._send("/auth/refresh", {"refresh_token": self.refresh_token})

    async def _send(self, path: str, body: dict[str, str]) -> None:
        headers = {"X-Forwarded-For": f"10.0.{self.number}.7"}
        began_at = time.perf_counter()
        async with self.session.post(self.url + path, json=body, headers=headers) as answer:
            said: dict[str, Any] = await answer.json()
        self.seconds.append(time.perf_counter() - began_at)
        if answer.status == 200:
            self.refresh_token = said["refresh_token"]
        else:
            self.refused += 1


async def main(port: int, kind: str, seconds: float, people: int, password: str) -> None:
    url = f"http://127.0.0.1:{port}"
    async with ClientSession(
        connector=TCPConnector(limit=0), timeout=ClientTimeout(total=60)
    ) as session:
        crowd = [Person(number, url, password, session) for number in range(people)]
        if kind == "refresh":
            await asyncio.gather(*(person.sign_in() for person in crowd))
            for person in crowd:
                person.seconds.clear()
        began_at = time.perf_counter()

        async def busy(person: Person) -> None:
            while time.perf_counter() < began_at + seconds:
                await (person.refresh() if kind == "refresh" else person.sign_in())

        await asyncio.gather(*(busy(person) for person in crowd))
        took_s = time.perf_counter() - began_at
    every = [second for person in crowd for second in person.seconds]
    print(result(took_s, every, refused=sum(person.refused for person in crowd)))


if __name__ == "__main__":
    words = sys.argv[1:]
    uvloop.run(main(int(words[0]), words[2], float(words[3]), int(words[4]), words[5]))
