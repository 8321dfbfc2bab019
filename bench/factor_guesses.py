"""`python -m bench.factor_guesses`: a hundred guesses of a second factor at once, over two nodes.

Two gateways on one PostgreSQL and one Valkey; the guesser knows the password, and has an
`mfa_token` for every guess.  Then the right code, at once as often.  Exits 1 when more than five
guesses were evaluated, or when the code let in more than one.
"""

from __future__ import annotations

import base64
import json
import os
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import pyotp
import typer
from rich.console import Console

from bench.processes import run_bench
from gateway.identity.factors.totp import DRIFT_STEPS, STEP_S
from gateway.identity.sign_in.throttle import FACTOR_FAILURES
from tests.contract.running import Running, started
from tests.servers import PostgresServer, ValkeyServer

console = Console()
PASSWORD = "correct horse 7 battery"


@contextmanager
def two_nodes(folder: Path, database_url: str, redis_url: str) -> Iterator[tuple[Running, Running]]:
    settings = {
        "GATEWAY_DATABASE_URL": database_url,
        "GATEWAY_REDIS_URL": redis_url,
        "GATEWAY_KEY_SECRET": base64.b64encode(os.urandom(32)).decode(),
        "GATEWAY_PUBLIC_URL": "http://127.0.0.1:8080",
    }
    with (
        started(folder / "one", **settings) as one,
        started(folder / "two", **settings) as other,
    ):
        yield one, other


def enrol(node: Running, email: str) -> str:
    """A new account with a factor; its secret."""
    token = ("Authorization", f"Bearer {node.sign_in(email)['access_token']}")
    secret = str(node.call("POST", "/auth/factors/totp", token).json["secret"])
    confirmed = node.call(
        "POST",
        "/auth/factors/totp/confirm",
        token,
        json_body={"code": pyotp.TOTP(secret).generate_otp(int(time.time()) // STEP_S - 1)},
    )
    assert confirmed.status == 200, confirmed
    return secret


def first_steps(nodes: Sequence[Running], email: str, count: int) -> list[str]:
    """As many tokens, each of a right password."""
    body = {"email": email, "password": PASSWORD}

    def ask(number: int) -> str:
        answer = nodes[number % len(nodes)].call("POST", "/auth/login", json_body=body)
        assert answer.status == 401, answer
        return str(answer.json["mfa_token"])

    return [ask(number) for number in range(count)]


def guess_at_once(
    nodes: Sequence[Running], tokens: Sequence[str], codes: Sequence[str]
) -> Counter[int]:
    """The answers by their status: 401 was evaluated, 429 was not."""

    def ask(number: int) -> int:
        body = {"mfa_token": tokens[number], "code": codes[number]}
        node = nodes[number % len(nodes)]
        return int(node.call("POST", "/auth/login/factor", json_body=body).status)

    with ThreadPoolExecutor(len(codes)) as threads:
        return Counter(threads.map(ask, range(len(codes))))


def wrong_codes(secret: str, count: int) -> list[str]:
    """None that is good now, or will be within minutes."""
    step = int(time.time()) // STEP_S
    near = range(step - DRIFT_STEPS, step + 20)
    good = {pyotp.TOTP(secret).generate_otp(one) for one in near}
    return [code for n in range(count + len(good)) if (code := f"{n * 7919:06}") not in good][
        :count
    ]


def measure(nodes: Sequence[Running], guesses: int) -> dict[str, float]:
    secret = enrol(nodes[0], "guessed@example.com")
    tokens = first_steps(nodes, "guessed@example.com", guesses)
    began_at = time.monotonic()
    answers = guess_at_once(nodes, tokens, wrong_codes(secret, guesses))
    seconds = time.monotonic() - began_at
    secret = enrol(nodes[0], "replayed@example.com")
    # No more than may be reserved at once: a right one is given back, and is not in the way.
    replays = FACTOR_FAILURES
    tokens = first_steps(nodes, "replayed@example.com", replays)
    code = pyotp.TOTP(secret).generate_otp(int(time.time()) // STEP_S + DRIFT_STEPS)
    replayed = guess_at_once(nodes, tokens, [code] * replays)
    return {
        "guesses": guesses,
        "evaluated": answers[401],
        "refused": answers[429],
        "let_in": answers[200],
        "seconds": round(seconds, 2),
        "one_code_at_once": replays,
        "let_in_by_it": replayed[200],
    }


def main(guesses: Annotated[int, typer.Option(min=1)] = 100) -> None:
    """Guess a second factor on two nodes at once: five are evaluated."""
    with tempfile.TemporaryDirectory(prefix="authgate-factors-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        postgres = PostgresServer(folder / "postgres").start()
        valkey = ValkeyServer(folder / "valkey").start()
        try:
            with two_nodes(folder, postgres.url, valkey.url) as nodes:
                figures = measure(nodes, guesses)
        finally:
            valkey.kill()
            postgres.kill()
    console.print_json(json.dumps(figures))
    good = (
        figures["evaluated"] <= FACTOR_FAILURES
        and figures["let_in"] == 0
        and figures["let_in_by_it"] == 1
    )
    raise typer.Exit(0 if good else 1)


if __name__ == "__main__":
    run_bench(main)
