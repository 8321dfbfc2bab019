"""No step of the keys' life makes a valid token fail, whatever order the steps come in.

Three nodes share one store.  A node may lag: it hears no announcement and reads nothing, yet
signs as long as it may.  Announcements may be lost.  After every step every node signs and a
client fetches the JWKS, which it keeps for its max-age.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Coroutine, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gateway.identity.keys.jwk import Alg, generate
from gateway.identity.keys.key_ring import JWKS_MAX_AGE_S, REFRESH_EVERY_S, KeyState
from gateway.model import Change, Principal, Reason
from gateway.stores.protocols import StoreUnavailable
from tests.identity.keyring import MAX_LIFE_S, Gate, HandClock, opened
from tests.identity.test_jwk import private_pem

T = TypeVar("T")
NODES = 3
nodes = st.integers(0, NODES - 1)


@dataclass
class Issued:
    text: str
    expires_at: int


class Town:
    """The publisher: it reaches whoever does not lag, and sometimes nobody."""

    def __init__(self) -> None:
        self.gates: list[Gate] = []
        self.rings: list[Any] = []
        self.lagging: set[int] = set()
        self.lost = False

    async def publish(self, changes: Sequence[Change]) -> bool:
        del changes
        if self.lost:
            return False
        for number, gate in enumerate(self.gates):
            if number not in self.lagging:
                await gate.ring.refresh()
        return True


class LifeOfKeys(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = tempfile.TemporaryDirectory()
        self.closing = AsyncExitStack()
        self.clock = HandClock()
        self.town = Town()
        self.tokens: dict[str, Issued] = {}  # by kid, the one that lives longest
        self.clients: dict[frozenset[str], float] = {}  # kids -> when last fetched
        self.revoked: set[str] = set()
        self.unwaited: set[str] = set()

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    @initialize()
    def first_start(self) -> None:
        self.do(self._first_start())

    async def _first_start(self) -> None:
        database = await self.closing.enter_async_context(
            opened(Path(self.folder.name), self.clock)
        )
        for _ in range(NODES):
            gate = Gate(database, self.clock, announcements=self.town, ttl_s=MAX_LIFE_S)  # type: ignore[arg-type]
            self.town.gates.append(gate)
        for gate in self.town.gates:
            await gate.start()

    def teardown(self) -> None:
        self.do(self.closing.aclose())
        self.runner.close()
        self.folder.cleanup()

    @property
    def awake(self) -> list[Gate]:
        return [g for n, g in enumerate(self.town.gates) if n not in self.town.lagging]

    @rule(node=nodes)
    def fall_behind(self, node: int) -> None:
        self.town.lagging.add(node)

    @precondition(lambda self: self.town.lagging)
    @rule()
    def catch_up(self) -> None:
        self.town.lagging.clear()
        self.do(self._tended())

    @rule(lost=st.booleans())
    def announcements_are_lost(self, lost: bool) -> None:
        self.town.lost = lost

    @rule(steps=st.sampled_from([1, 5, 9, 11]))
    def wait_a_little(self, steps: int) -> None:
        for _ in range(steps):
            self.clock.advance(REFRESH_EVERY_S)
            self.do(self._tended())

    @rule(seconds=st.sampled_from([1, 570, MAX_LIFE_S - 1]))
    def wait_long(self, seconds: int) -> None:
        self.clock.advance(seconds)
        self.do(self._tended())

    async def _tended(self) -> None:
        """What every worker does by itself; one that lags does not."""
        for gate in self.awake:
            await gate.rotation.rotate_if_due()
            await gate.ring.refresh()

    @rule(node=nodes)
    def rotate(self, node: int) -> None:
        self.do(self.town.gates[node].rotation.rotate())

    @rule(node=nodes)
    def import_a_key(self, node: int) -> None:
        self.do(self.town.gates[node].rotation.import_key(private_pem(generate(Alg.EDDSA))))

    @rule(node=nodes, state=st.sampled_from([KeyState.ACTIVE, KeyState.NEXT, KeyState.RETIRING]))
    def revoke(self, node: int, state: KeyState) -> None:
        self.do(self._revoke(self.town.gates[node], state))

    async def _revoke(self, gate: Gate, state: KeyState) -> None:
        kid = next((r.kid for r in await gate.rotation.listing() if r.state is state), None)
        if kid is None:
            return
        revoked = await gate.rotation.revoke(kid)
        assert revoked is not None
        self.revoked.add(kid)
        if revoked.promoted:
            self.unwaited.add(revoked.promoted)

    @invariant()
    def no_good_token_fails_anywhere(self) -> None:
        now = self.clock.now()
        for node, gate in enumerate(self.town.gates):
            self._sign_in(gate)
            if node not in self.town.lagging:
                document = json.loads(gate.ring.jwks.body)
                self.clients[frozenset(key["kid"] for key in document["keys"])] = now
        self.tokens = {k: t for k, t in self.tokens.items() if t.expires_at > now}
        self.clients = {k: at for k, at in self.clients.items() if at + JWKS_MAX_AGE_S > now}
        for kid in self.tokens.keys() - self.revoked:
            for gate in self.awake:
                assert self.do(_verdict(gate, self.tokens[kid].text)) is not None
            # A key that a revocation promoted signs at once; the others were waited for.
            if kid not in self.unwaited:
                assert all(kid in kids for kids in self.clients)

    def _sign_in(self, gate: Gate) -> None:
        try:
            kid = gate.ring.signing_key().kid
        except StoreUnavailable:
            return  # it may not sign: nobody got a token that could fail
        self.tokens[kid] = Issued(gate.token(), int(self.clock.now()) + MAX_LIFE_S)

    @invariant()
    def one_key_signs_and_one_waits(self) -> None:
        if self.town.gates:
            rows = self.do(self.town.gates[0].rotation.listing())
            key_states = [row.state for row in rows]
            assert key_states.count(KeyState.ACTIVE) == 1
            assert key_states.count(KeyState.NEXT) == 1


async def _verdict(gate: Gate, text: str) -> Principal | None:
    """As `worker.verified` asks: the ring, then SQL for a kid the ring does not hold."""
    verdict = gate.verifier.verify(text)
    if verdict is Reason.KEY_UNKNOWN:
        # On a clock of its own: the second that a look-up may have to wait changes nothing.
        await gate.ring.refresh()
        verdict = gate.verifier.verify(text)
    return verdict if isinstance(verdict, Principal) else None


LifeOfKeys.TestCase.settings = settings(
    max_examples=25,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
TestLifeOfKeys = LifeOfKeys.TestCase
