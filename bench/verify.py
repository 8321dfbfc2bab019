"""What it costs to know who calls: `python -m bench.verify`.

Each line is the median and the best of five rounds of one operation, in microseconds, in one
process with nothing around it: no socket, no loop turn, no policy.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from gateway.identity.keys.encryption import Sealer
from gateway.identity.keys.jwk import Alg
from gateway.identity.keys.key_ring import KeyRing
from gateway.identity.keys.rotation import KeyRotation
from gateway.identity.tokens.access_tokens import TokenIssuer, TokenSubject, TokenVerifier
from gateway.identity.tokens.authenticator import RequestAuthenticator
from gateway.model import Call, Change, Credential, CredentialKind, Principal, Reason, SystemClock
from gateway.stores.migrations import upgrade
from gateway.stores.sqlite import SqliteDatabase

HERE = "https://gate.example"
BEARER = frozenset({CredentialKind.BEARER})
TOKENS = 1000
ROUNDS = 5


class NobodyRevoked:
    def refusal(self, principal: Principal) -> Reason | None:
        del principal
        return None


class NobodyListens:
    async def publish(self, changes: Sequence[Change]) -> bool:
        del changes
        return True


@dataclass(slots=True)
class Measured:
    what: str
    median_us: float
    best_us: float

    def __str__(self) -> str:
        return f"{self.what:<44} {self.median_us:8.2f} {self.best_us:8.2f}"


def driven(authenticator: RequestAuthenticator, calls: list[Call]) -> Callable[[], None]:
    """Runs the coroutines to their end without an event loop: a hit awaits nothing."""

    def run() -> None:
        for call in calls:
            try:
                authenticator.authenticate(call, BEARER).send(None)
            except StopIteration:
                continue
            raise RuntimeError("it waited for something")

    return run


def rounds(what: str, count: int, run: Callable[[], None], before: Callable[[], None]) -> Measured:
    taken = []
    for _ in range(ROUNDS):
        before()
        began = time.perf_counter()
        run()
        taken.append((time.perf_counter() - began) / count * 1e6)
    return Measured(what, statistics.median(taken), min(taken))


def call_with(text: str) -> Call:
    credential = Credential(CredentialKind.BEARER, text)
    return Call(
        "GET",
        "gate.example",
        "/",
        ("",),
        "",
        headers=(),
        client_ip="127.0.0.1",
        scheme="https",
        credential=credential,
    )


def subject(number: int) -> TokenSubject:
    return TokenSubject(
        subject=f"00000000-0000-4000-8000-{number:012d}",
        email=f"user{number}@example.com",
        email_verified=True,
        roles=("viewer", "manager"),
        session_id=f"session-{number:016d}",
        client_id=None,
        amr=("pwd",),
        auth_time=int(time.time()),
    )


async def of(alg: Alg, folder: Path) -> list[Measured]:
    clock = SystemClock()
    database = SqliteDatabase(folder / f"{alg}.db", clock)
    await upgrade(database)
    sealer = Sealer(bytes(range(32)))
    rotation = KeyRotation(database, sealer, NobodyListens(), alg=alg, max_token_life_s=86_400)
    ring = KeyRing(database, sealer, clock)
    await rotation.ensure()
    await ring.refresh()
    await database.close()
    issuer = TokenIssuer(ring, issuer=HERE, audience=HERE, ttl_s=900)
    verifier = TokenVerifier(ring, issuer=HERE, audience=HERE, max_life_s=86_400, clock=clock)
    authenticator = RequestAuthenticator(verifier, ring, NobodyRevoked(), clock)

    now = int(time.time())
    began = time.perf_counter()
    texts = [issuer.issue(subject(number), now).text for number in range(TOKENS)]
    issued = (time.perf_counter() - began) / TOKENS * 1e6
    calls = [call_with(text) for text in texts]
    run = driven(authenticator, calls)
    forged = [text[:-20] + "A" * 20 for text in texts]

    def judge_forged() -> None:
        for text in forged:
            assert verifier.verify(text) is Reason.TOKEN_SIGNATURE_INVALID

    miss = rounds(f"{alg}: first sight", TOKENS, run, authenticator.clear)
    run()
    assert len(authenticator) == TOKENS

    def anew() -> None:
        """Every request brings a text of its own, whose hash nobody has computed yet."""
        for call, text in zip(calls, texts, strict=True):
            call.credential = Credential(CredentialKind.BEARER, text.encode().decode())

    known = rounds(f"{alg}: known", TOKENS, run, anew)
    return [
        Measured(f"{alg}: signing", issued, issued),
        miss,
        rounds(f"{alg}: forged", TOKENS, judge_forged, lambda: None),
        known,
    ]


async def main() -> None:
    print(f"{'microseconds':<44} {'median':>8} {'best':>8}")
    with tempfile.TemporaryDirectory() as folder:
        for alg in Alg:
            for line in await of(alg, Path(folder)):
                print(line)


if __name__ == "__main__":
    asyncio.run(main())
