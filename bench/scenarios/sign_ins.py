"""Sign-ins and refreshes a second."""

from __future__ import annotations

import asyncio
import json
import secrets
import sys
from collections.abc import Sequence
from functools import partial
from typing import Any

import bcrypt
from aiohttp import ClientSession

from bench.credentials import AUDIENCE, ISSUER, Signer, new_key
from bench.load import Round
from bench.peers import Peer, Shape, authgate, scripted, start_gateway
from bench.processes import Started
from bench.results import US
from bench.rig import BASE_PORT, HERE, LOAD_CPU, Rig, found
from bench.scenarios.clients.sign_ins import email_of
from bench.scenarios.loads import by_client
from bench.scenarios.model import Entry, Scenario
from gateway.identity.accounts.passwords import import_hash
from gateway.identity.accounts.user_import import ImportedUser, import_users
from gateway.stores.open_database import open_database

PEOPLE = 16
ROUNDS = 10
PASSWORD = "a-benchmark-has-no-secrets-9-but-this"
SETTINGS = (
    ("GATEWAY_BCRYPT_ROUNDS", str(ROUNDS)),
    ("GATEWAY_SIGNING_ALG", "ES256"),
    ("GATEWAY_TRUSTED_PROXIES", "127.0.0.1/32"),
)


def hashed() -> str:
    return bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(ROUNDS)).decode()


def start_authgate(rig: Rig, peer: Peer) -> Started:
    process = start_gateway(rig, peer)
    url = authgate.gateway_environment(rig, peer.port)["GATEWAY_DATABASE_URL"]
    asyncio.run(_bring_in(url, hashed()))
    return process


async def _bring_in(database_url: str, bcrypt_hash: str) -> None:
    stored = import_hash(bcrypt_hash)
    assert stored is not None
    emails = [email_of(number) for number in range(PEOPLE + 1)]
    people = [
        ImportedUser(line, email, email, True, ("user",), stored)
        for line, email in enumerate(emails, 1)
    ]
    database = open_database(database_url)
    try:
        if problems := await import_users(database, people):
            raise RuntimeError(problems[0].problem)
    finally:
        await database.close()


def start_naive(rig: Rig, peer: Peer) -> Started:
    redis = peer.port + 100
    server = found("valkey-server") or found("redis-server")
    command = [server, "--port", str(redis), "--bind", "127.0.0.1", "--save", ""]
    rig.start(f"{peer.file_name}-redis", command, redis, cpu=LOAD_CPU)
    key = rig.folder / "keys" / "sign-in.pem"
    key.write_text(Signer(new_key("ES256"), "ES256").private_pem)
    said = {
        "port": peer.port,
        "redis": redis,
        "key": str(key),
        "issuer": ISSUER,
        "audience": AUDIENCE,
        "emails": [email_of(number) for number in range(PEOPLE + 1)],
        "hash": hashed(),
    }
    program = [sys.executable, str(HERE / "peers" / "naive_sign_in.py"), json.dumps(said)]
    return rig.start(peer.file_name, program, peer.port)


def signs_in(rig: Rig, peer: Peer) -> list[str]:
    """The right password alone, and a refresh token once."""
    del rig
    return asyncio.run(_signs_in(f"http://127.0.0.1:{peer.port}"))


async def _signs_in(url: str) -> list[str]:
    faults = []

    async with ClientSession() as session:

        async def status(path: str, body: dict[str, str]) -> tuple[int, Any]:
            headers = {"X-Forwarded-For": f"10.{secrets.randbelow(250)}.200.7"}
            async with session.post(url + path, json=body, headers=headers) as answer:
                return answer.status, await answer.json()

        async def expect(what: str, path: str, body: dict[str, str], expected: int) -> Any:
            got, said = await status(path, body)
            if got != expected:
                faults.append(f"{what} got {got}, not {expected}")
            return said

        # Somebody who signs in no more: who has just guessed wrong has to wait.
        wrong = {"email": email_of(PEOPLE), "password": "not the password of anybody"}
        await expect("a wrong password", "/auth/login", wrong, 401)
        stranger = {"email": "stranger@example.com", "password": PASSWORD}
        await expect("a stranger", "/auth/login", stranger, 401)
        right = {"email": email_of(0), "password": PASSWORD}
        said = await expect("a right password", "/auth/login", right, 200)
        token = {"refresh_token": str(said.get("refresh_token", ""))}
        if len(str(said.get("access_token", "")).split(".")) != 3:
            faults.append("a right password gave no token")
        await expect("a refresh token", "/auth/refresh", token, 200)
        made_up = {"refresh_token": "made-up-" + secrets.token_urlsafe(24)}
        await expect("a made-up refresh token", "/auth/refresh", made_up, 401)
    return faults


def busy(kind: str, people: int, rig: Rig, peer: Peer, process: Started, seconds: float) -> Round:
    words: Sequence[str] = (kind, str(seconds), str(people), PASSWORD)
    return by_client(rig, peer, process, seconds, "sign_ins", *words)


def entries(rig: Rig) -> list[Entry]:
    del rig
    settled = Shape(settings=SETTINGS)
    peers = [
        Peer(US, "bcrypt, sessions in SQLite", BASE_PORT + 1, start_authgate, authgate.lacks,
             shape=settled),
        Peer("naive", "bcrypt, pyjwt, Redis", BASE_PORT + 2, start_naive, scripted.naive_lacks),
    ]  # fmt: skip
    return [
        Entry(peer, partial(busy, kind, people), signs_in, variant)
        for variant, kind, people in (("sign-in", "sign-in", 8), ("refresh", "refresh", PEOPLE))
        for peer in peers
    ]


SIGN_INS = Scenario(
    "sign-ins",
    "Sign-ins and refreshes",
    "Eight people who sign in again and again, and sixteen who refresh, at one worker with its "
    "embedded stores. bcrypt has cost 10 and takes nearly all of a sign-in's time, whoever asks it "
    "to; tokens are signed with ES256. The peer is the naive gateway's way to do it (one hash, one "
    "token, one key in Redis, which it has for free); the gateway keeps sessions, families of "
    "refresh tokens, attempts and an audit log in SQL, all of it on its core. No other peer signs "
    "anybody in.",
    entries,
    unit="a second",
    users=1,
    takes_s=45,
)
