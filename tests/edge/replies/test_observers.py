"""Every answer is counted once, whoever gives it: what is not counted, no alert can tell."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import web

from gateway.access.authorizer import Decision
from gateway.access.routing.csrf import AllowedOrigins, OwnOrigins
from gateway.access.routing.route_table import RouteTable
from gateway.access.simulation import FixedAuthenticator
from gateway.edge.admin.listener import AdminListener, AdminOptions
from gateway.edge.endpoints.csrf import CsrfGuard
from gateway.edge.endpoints.rate_limits import EndpointLimits
from gateway.edge.endpoints.router import AuthApi
from gateway.edge.proxy.handler import Proxy
from gateway.edge.proxy.request import CallReader
from gateway.edge.server.listener import Listener, ListenerLimits
from gateway.edge.upstream.clusters import Clusters
from gateway.identity.sign_in.session_cookies import Csrf
from gateway.model import Call, Reason
from gateway.rate_limit.limiter import RateLimiter
from gateway.telemetry.metrics import Metrics
from tests.databases import Hands
from tests.edge.rig import Client, answering, listen, running

GET = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"


def counted(metrics: Metrics) -> dict[tuple[str, str, int], int]:
    """Answers by route, outcome and status."""
    return {
        (route, str(reason), status): n
        for route, answers, *_ in metrics.state()["routes"]
        for (reason, status), n in answers
    }


def own(metrics: Metrics) -> dict[tuple[str, ...], int]:
    """Answers of the own endpoints by address, outcome and status."""
    for name, _, _, children in metrics.state()["tallies"]:
        if name == "endpoint_requests":
            return {tuple(key): n for key, n in children}
    return {}


def defects(metrics: Metrics) -> int:
    return metrics.defects("answer").n


@pytest.mark.parametrize(
    ("data", "reason", "status"),
    [
        (b"GET  /a HTTP/1.1\r\nHost: x\r\n\r\n", "request_malformed", 400),
        (b"GET /a HTTP/1.1\r\n\r\n", "request_malformed", 400),
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", "target_too_long", 414),
        (b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 17_000, "header_too_large", 431),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n", "request_timeout", 408),
    ],
)
async def test_what_is_refused_before_it_is_a_call_is_counted(
    data: bytes, reason: str, status: int
) -> None:
    metrics = Metrics()
    limits = ListenerLimits(body_idle_s=0.1, sweep_s=0.05)
    async with running(metrics=metrics, limits=limits) as rig:
        assert (await rig.ask(data)).status == status
    found = counted(metrics)
    route = "r" if status == 408 else ""
    assert found.get((route, reason, status), 0) + found.get(("", reason, status), 0) >= 1
    assert sum(found.values()) == 1
    assert defects(metrics) == 0


async def test_a_defect_of_the_decision_is_counted_as_one() -> None:
    metrics = Metrics()
    async with running(metrics=metrics) as rig:

        async def broken(call: Call, snapshot: object) -> Decision:
            raise LookupError("a defect")

        rig.gate.decide = broken  # type: ignore[method-assign]
        assert (await rig.ask(GET)).status == 500
    assert counted(metrics) == {("", "internal_error", 500): 1}
    assert defects(metrics) == 1


async def test_a_500_of_an_upstream_is_no_defect_of_ours() -> None:
    metrics = Metrics()
    bad = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n"
    async with running(answering(bad), metrics=metrics) as rig:
        assert (await rig.ask(GET)).status == 500
    assert counted(metrics) == {("r", "route_public", 500): 1}
    assert defects(metrics) == 0


@pytest.mark.parametrize("method", [b"GET", b"POST"])
async def test_an_answer_that_was_cut_off_is_counted_by_what_cut_it(method: bytes) -> None:
    """GET goes the common way, POST the one that waits."""
    metrics = Metrics()
    short = b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nshort"
    async with running(metrics=metrics) as rig:
        await rig.ask(GET)  # a connection is kept from now on
        rig.upstream.script = answering(short, close=True)
        client = await rig.client()
        await client.send(method + b" /a HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
        assert (await client.head()).status == 200
        with pytest.raises(ConnectionError):
            await client.rest()
    assert counted(metrics) == {
        ("r", "route_public", 200): 1,
        ("r", "upstream_malformed", 200): 1,
    }


@pytest.mark.parametrize("method", [b"GET", b"POST"])
async def test_an_answer_whose_client_leaves_is_counted_as_what_it_was(method: bytes) -> None:
    metrics = Metrics()
    begun = b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nbegun"
    async with running(metrics=metrics) as rig:
        await rig.ask(GET)
        rig.upstream.script = answering(begun)
        client = await rig.client()
        await client.send(method + b" /a HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
        await client.head()
        open_before = rig.upstream.open
        client.writer.transport.abort()
        await rig.upstream.until(lambda: rig.upstream.open < open_before)
        deadline = asyncio.get_running_loop().time() + 5
        while counted(metrics) != {("r", "route_public", 200): 2}:
            assert asyncio.get_running_loop().time() < deadline, counted(metrics)
            await asyncio.sleep(0)


class _WellKnown:
    def answer(self, request: web.BaseRequest, path: str) -> None:
        return None


async def _broken(request: web.BaseRequest, call: Call) -> Any:
    raise LookupError("a defect")


async def _asked(handler: Any, data: bytes) -> int:
    listener = Listener(handler, CallReader())
    listener.start()
    try:
        client = Client(*await asyncio.open_connection("127.0.0.1", await listen(listener)))
        await client.send(data)
        status = (await client.answer()).status
        client.close()
        return status
    finally:
        await listener.stop(0.1)


async def test_a_defect_of_an_endpoint_is_a_500_of_that_endpoint() -> None:
    metrics = Metrics()
    shielded: Any = None
    api = AuthApi(
        {("login",): {"POST": _broken}},
        _WellKnown(),  # type: ignore[arg-type]
        shielded,
        https=False,
        csrf_guard=CsrfGuard(
            Csrf(b"c" * 32),
            lambda _: AllowedOrigins(OwnOrigins()),
            FixedAuthenticator(Reason.NO_CREDENTIAL),
        ),
        limits=EndpointLimits(RateLimiter(Hands())),
        meter=metrics.record_endpoint,
        defects=metrics.defects("answer"),
    )
    nowhere: Any = None
    snapshot: Any = SimpleNamespace(auth_cors=None, routes=RouteTable())
    proxy = Proxy(nowhere, lambda: snapshot, CallReader(), Clusters(), api, metrics=metrics)
    data = b"POST /auth/login HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
    assert await _asked(proxy, data) == 500
    assert own(metrics) == {("/auth/login", "internal_error", "500"): 1}
    assert counted(metrics) == {}
    assert defects(metrics) == 1


class _Workers:
    async def gather(self) -> Any:
        raise LookupError("a defect")


@pytest.mark.parametrize(
    ("path", "endpoint", "outcome", "status"),
    [
        ("/healthz", "/healthz", "ok", 200),
        ("/readyz", "/readyz", "internal_error", 500),
        ("/made-up", "", "route_unknown", 404),
    ],
)
async def test_answers_of_the_admin_listener_are_counted_by_names_of_ours(
    path: str, endpoint: str, outcome: str, status: int
) -> None:
    metrics = Metrics()
    options = AdminOptions(frozenset())
    admin = AdminListener(
        options,
        _Workers(),
        CallReader(),
        meter=metrics.record_endpoint,
        defects=metrics.defects("answer"),
    )
    data = f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    assert await _asked(admin, data) == status
    assert own(metrics) == {(endpoint, outcome, str(status)): 1}
    assert defects(metrics) == (status == 500)


def test_the_first_defect_is_seen_to_come() -> None:
    """A counter that appears with 1 has grown by nothing, for who only sees it then."""
    metrics = Metrics()
    metrics.defects("answer")
    tallies = {name: children for name, _, _, children in metrics.state()["tallies"]}
    assert tallies["defects"] == [[("answer",), 0]]


def test_a_reason_is_counted_by_its_name() -> None:
    metrics = Metrics()
    metrics.route("").record(Reason.REQUEST_MALFORMED, 400, 0.0)
    assert counted(metrics) == {("", "request_malformed", 400): 1}
