"""What a remembered token of another issuer costs a decision, beside one of our own.

    python -m bench.issuers [--issuers 1,10,50] [--rounds 101] [--json]

Everything runs in this process, over a real key ring, real keys and a compiled configuration of so
many issuers.  Both tokens are decided in turn, round after round, so that whatever disturbs the
machine disturbs both; exit code 1 when the median of the ratios is over 1.05.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import logging
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from statistics import median
from typing import Any

import structlog

from gateway.access.authorizer import Authorizer
from gateway.access.simulation import NoLimits, SimulatedRequest, completed, simulated_call
from gateway.access.snapshot import Snapshot
from gateway.config.compile import Sources, compile_snapshot
from gateway.identity.tokens.authenticator import RequestAuthenticator
from gateway.model import Call, Credential, CredentialKind, Principal, Reason, SystemClock
from gateway.revocation.revocation_list import RevocationList
from tests.identity.issuers.provider import Documents, Signer, document, issuer_tokens, signer
from tests.identity.keyring import Gate, opened

MOST_RATIO = 1.05
CALLS = 1_000

POLICY = """\
version: 1
policy: orders
rules:
  - id: known
    allow: ["*"]
    when: user.id != ''
"""


class Confirmed:
    """A replica that holds no revocation and is never stale."""

    def __init__(self, clock: SystemClock) -> None:
        self._steady = clock.steady
        self._live_until = clock.steady() + 1e9
        self._revocations = RevocationList()

    def refusal(self, principal: Principal) -> Reason | None:
        if self._steady() >= self._live_until:
            return Reason.REPLICA_STALE
        return self._revocations.refusal(principal)


def url(number: int) -> str:
    return f"https://id-{number}.example.com"


def configuration(issuers: int) -> Snapshot:
    names = [f"issuer-{number}" for number in range(issuers)]
    lines = ["version: 1", "issuers:"]
    for number, name in enumerate(names):
        words = f"issuer: {url(number)}, audience: api, jwks_uri: {url(number)}/keys"
        lines.append(
            f"  {name}: {{{words}, algorithms: [ES256], roles: claims.realm_access.roles}}"
        )
    taken = ", ".join(["own", *names])
    lines += [
        "upstreams: {api: {targets: [http://127.0.0.1:9001]}}",
        "routes:",
        f"  - {{id: orders, match: {{prefix: /v1}}, issuers: [{taken}], policy: orders,"
        " action: orders:read, upstream: api}",
    ]
    sources = Sources(("routes.yaml", "\n".join(lines) + "\n"), (("policies/orders.yaml", POLICY),))
    snapshot = compile_snapshot(sources)
    assert isinstance(snapshot, Snapshot), snapshot
    return snapshot


async def measured(issuers: int, rounds: int, folder: Path) -> dict[str, Any]:
    clock: Any = SystemClock()
    snapshot = configuration(issuers)
    keys = {number: signer("ES256") for number in range(issuers)}
    documents = Documents({f"{url(n)}/keys": document(key) for n, key in keys.items()})
    tokens = issuer_tokens(documents, clock, *snapshot.issuers.values())
    for key_set in tokens.key_sets.values():
        await key_set.refresh()
    async with opened(folder, clock) as database:
        gate = await Gate(database, clock).start()
        authenticator = RequestAuthenticator(
            gate.verifier, gate.ring, Confirmed(clock), clock, issuers=tokens
        )
        own = call_with(gate.token())
        last = issuers - 1
        foreign = call_with(token(keys[last], url(last)))
    authorizer = Authorizer(authenticator, NoLimits())
    route = next(iter(snapshot.routes))

    def decided(call: Call) -> Coroutine[Any, Any, Any]:
        return authorizer.decide(call, snapshot)

    def authenticated(call: Call) -> Coroutine[Any, Any, Any]:
        return authenticator.authenticate(call, route.accept, route.issuers)

    for call in (own, foreign):
        assert completed(decided(call)).allowed
    decide = _interleaved(decided, own, foreign, rounds)
    authenticate = _interleaved(authenticated, own, foreign, rounds)
    return {"issuers": issuers, "decide": decide, "authenticate": authenticate}


def call_with(text: str) -> Call:
    call = simulated_call(SimulatedRequest("GET", "/v1/orders"))
    assert isinstance(call, Call)
    call.credential = Credential(CredentialKind.BEARER, text)
    return call


def token(key: Signer, issuer: str) -> str:
    now = int(time.time())
    return key.token(iss=issuer, iat=now, exp=now + 900, auth_time=now)


def _interleaved(
    work: Callable[[Call], Coroutine[Any, Any, Any]], own: Call, foreign: Call, rounds: int
) -> dict[str, float]:
    times: dict[bool, list[float]] = {True: [], False: []}
    for number in range(rounds):
        order = ((own, True), (foreign, False))
        for call, is_own in order if number % 2 else reversed(order):
            times[is_own].append(_once(work, call))
    ratios = [theirs / ours for ours, theirs in zip(times[True], times[False], strict=True)]
    return {
        "own_us": median(times[True]) * 1e6,
        "foreign_us": median(times[False]) * 1e6,
        "ratio": median(ratios),
    }


def _once(work: Callable[[Call], Coroutine[Any, Any, Any]], call: Call) -> float:
    gc.disable()
    began = time.process_time()
    for _ in range(CALLS):
        completed(work(call))  # what is remembered is decided without a turn of the loop
    took_s = time.process_time() - began
    gc.enable()
    return took_s / CALLS


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--issuers", default="1,10,50")
    parser.add_argument("--rounds", type=int, default=101)
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    found = []
    for issuers in map(int, chosen.issuers.split(",")):
        with tempfile.TemporaryDirectory() as folder:
            found.append(asyncio.run(measured(issuers, chosen.rounds, Path(folder))))
    if chosen.json:
        print(json.dumps(found, indent=2))
    else:
        print(f"{'issuers':>7}  {'':12}  {'own µs':>7}  {'foreign µs':>10}  {'ratio':>6}")
        for one in found:
            for what in ("decide", "authenticate"):
                own, foreign, ratio = (one[what][k] for k in ("own_us", "foreign_us", "ratio"))
                print(f"{one['issuers']:>7}  {what:12}  {own:7.2f}  {foreign:10.2f}  {ratio:6.3f}")
    sys.exit(any(one["decide"]["ratio"] > MOST_RATIO for one in found))


if __name__ == "__main__":
    main()
