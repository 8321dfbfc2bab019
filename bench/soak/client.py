"""One client of the balancer, at an address of its own, whose every answer is judged."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import Callable, Sequence
from typing import Any

from aiohttp import ClientError, ClientSession, ClientTimeout, DummyCookieJar, TCPConnector

from bench.soak.answers import CUT, LATE, Answer
from bench.soak.oracle import Expected, Oracle, Subject, Verdict

HOST = "gate.example"
LATE_S = 10.0
"""Nobody waits longer."""
_numbers = itertools.count(1)

Expecting = Sequence[Expected] | Callable[[], Sequence[Expected]]
"""What may come; a function is asked when the answer is there, as it may have changed meanwhile."""


class Client:
    def __init__(
        self, port: int, oracle: Oracle, late_s: float = LATE_S, *, keep: bool = True
    ) -> None:
        """`keep`: whether its connections are used for more than one call."""
        number = next(_numbers)
        self.address = f"127.1.{number // 250}.{number % 250 + 1}"
        self.oracle = oracle
        self._base = f"http://127.0.0.1:{port}"
        self.port = port
        # HAProxy is the one that closes: what rests here for so long would be cut off by it.
        address = (self.address, 0)
        connector = (
            TCPConnector(local_addr=address, keepalive_timeout=20)
            if keep
            else TCPConnector(local_addr=address, force_close=True)
        )
        self.session = ClientSession(
            connector=connector,
            cookie_jar=DummyCookieJar(),
            timeout=ClientTimeout(total=late_s),
            headers={"Host": HOST, "User-Agent": f"soak/{number}"},
        )

    async def ask(
        self,
        method: str,
        path: str,
        expecting: Expecting,
        *,
        subject: Subject,
        kind: str,
        headers: dict[str, str] | None = None,
        **what: Any,
    ) -> tuple[Verdict, Answer]:
        answer = await self.send(method, path, headers, **what)
        expected = expecting() if callable(expecting) else expecting
        verdict = self.oracle.judge(answer, expected, subject=subject, kind=kind, path=path)
        return verdict, answer

    async def send(
        self, method: str, path: str, headers: dict[str, str] | None = None, **what: Any
    ) -> Answer:
        sent_at = time.monotonic()
        try:
            async with self.session.request(
                method, self._base + path, headers=headers, allow_redirects=False, **what
            ) as got:
                body = await got.read()
                fields = {name.lower(): value for name, value in got.headers.items()}
                cookies = {name: morsel.value for name, morsel in got.cookies.items()}
                status = got.status
        except TimeoutError:
            return Answer(0, LATE, sent_at=sent_at, received_at=time.monotonic())
        except (ClientError, OSError):
            return Answer(0, CUT, sent_at=sent_at, received_at=time.monotonic())
        document = _document(body, fields.get("content-type", ""))
        reason = str(document.get("reason", "")) if isinstance(document, dict) else ""
        if status >= 400 and not reason and isinstance(document, dict):
            reason = str(document.get("error", ""))  # of OAuth
        return Answer(status, reason, fields, document, cookies, sent_at, time.monotonic())

    async def close(self) -> None:
        await self.session.close()


def _document(body: bytes, media_type: str) -> Any:
    if "json" not in media_type:
        return body
    try:
        return json.loads(body)
    except ValueError:
        return body


async def pause(answer: Answer, most_s: float = 1.0) -> None:
    """Before the next try, as the answer says."""
    await asyncio.sleep(min(answer.retry_after_s, most_s) if answer.status else 0.2)
