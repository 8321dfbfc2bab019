"""All scenarios, in the order of the page."""

from __future__ import annotations

from bench.scenarios.cold import COLD
from bench.scenarios.deciding import DECIDE
from bench.scenarios.latency import LATENCY
from bench.scenarios.model import Scenario
from bench.scenarios.scale import REVOCATIONS, ROUTED, WORKERS
from bench.scenarios.sign_ins import SIGN_INS
from bench.scenarios.traffic import ISSUED, POLICY, POST, PUBLIC
from bench.scenarios.transport import BODIES, CONNECTIONS, HANDSHAKES, TLS, WEBSOCKET

SCENARIOS: tuple[Scenario, ...] = (
    COLD,
    PUBLIC,
    TLS,
    HANDSHAKES,
    POST,
    BODIES,
    WEBSOCKET,
    POLICY,
    ISSUED,
    DECIDE,
    SIGN_INS,
    LATENCY,
    WORKERS,
    CONNECTIONS,
    ROUTED,
    REVOCATIONS,
)
