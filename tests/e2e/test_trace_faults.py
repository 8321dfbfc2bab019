"""Traces of calls that go wrong, of several workers, and to a collector that does not take them."""

from __future__ import annotations

import json
import signal
import socket
import threading
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import pytest

from tests.contract.running import ROUTES, Running
from tests.e2e.processes import metric, ready, until
from tests.e2e.test_traces import parent, sent_parent, server_span, traced
from tests.ports import free_port

pytestmark = pytest.mark.slow

SECRET = "hunter2-"
"""What every secret below begins with."""


def events(running: Running, event: str) -> list[dict[str, object]]:
    lines = [json.loads(line) for line in running.log.read_text().splitlines() if line[:1] == "{"]
    return [line for line in lines if line["event"] == event]


@contextmanager
def backend(*answers: bytes) -> Iterator[tuple[int, list[bytes]]]:
    """One that gives these answers, a connection each; and the heads that it has read."""
    heads: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            with suppress(OSError):
                for answer in answers:
                    client, _ = listening.accept()
                    with client:
                        head = b""
                        while b"\r\n\r\n" not in head and (more := client.recv(65_536)):
                            head += more
                        heads.append(head)
                        client.sendall(answer)

        threading.Thread(target=serve, daemon=True).start()
        yield listening.getsockname()[1], heads


def with_route(*ports: int) -> str:
    """The routes, and one more whose upstream has these targets and is tried again."""
    targets = ", ".join(f'"http://127.0.0.1:{port}"' for port in ports)
    more = """\
  - id: again
    match: {{path: /again}}
    auth: public
    upstream: again
"""
    upstream = f"""\
upstreams:
  again:
    targets: [{targets}]
    retry: {{{{attempts: 3, on: [connect, "503"]}}}}
"""
    return ROUTES.replace("upstreams:\n", upstream, 1).rstrip("\n") + "\n" + more


BUSY = b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"


def test_each_attempt_is_a_span_of_its_own_and_the_upstreams_parent(tmp_path: Path) -> None:
    with (
        backend(BUSY, GOOD) as (port, heads),
        traced(tmp_path / "g", routes=with_route(port)) as (running, collector),
    ):
        field, trace_id = parent(1)
        assert running.call("GET", "/again", field).status == 200
        span = server_span(collector, trace_id)
        assert span.attributes["authgate.attempts"] == 2
        attempts = [one for one in collector.of(trace_id) if one.kind == "CLIENT"]
        assert {one.parent_id for one in attempts} == {span.span_id}
        first, second = sorted(attempts, key=lambda one: one.began_ns)
        assert (first.status, second.status) == (2, 0)
        assert "http.response.status_code" not in first.attributes
        assert second.attributes["http.response.status_code"] == 200
        assert second.attributes["http.request.resend_count"] == 1
        assert first.ended_ns <= second.began_ns
        told = [
            line.removeprefix(b"traceparent: ").decode()
            for head in heads
            for line in head.split(b"\r\n")
            if line.startswith(b"traceparent: ")
        ]
        assert told == [f"00-{trace_id}-{one.span_id}-01" for one in (first, second)]


def test_a_target_that_nobody_listens_at_is_an_attempt_that_failed(tmp_path: Path) -> None:
    with (
        backend(GOOD, GOOD) as (port, _),
        socket.socket() as taken,  # and not listened at
        traced(tmp_path / "g", routes=with_route(bound(taken), port)) as (running, collector),
    ):
        attempts = []
        for number in (1, 2):  # one of them has its turn first
            field, trace_id = parent(number)
            assert running.call("GET", "/again", field).status == 200
            server_span(collector, trace_id)
            attempts += [one for one in collector.of(trace_id) if one.kind == "CLIENT"]
        errors = [one.attributes.get("error.type") for one in attempts]
        assert sorted(map(str, errors)) == ["None", "None", "connect"]


def test_both_workers_send_and_the_last_calls_are_not_lost(tmp_path: Path) -> None:
    settings = {"OTEL_BSP_SCHEDULE_DELAY": "600000"}
    with traced(tmp_path / "g", "--workers", "2", **settings) as (running, collector):
        pids = {one["worker"] for one in ready(running)["workers"]}
        seen: set[int] = set()
        for number in range(40):
            field, _ = parent(number)
            assert running.call("GET", "/public/x", field).status == 200
        assert collector.spans == [], "nothing is due yet"
        running.process.send_signal(signal.SIGTERM)
        running.process.wait(40)
        seen = {span.resource["process.pid"] for span in collector.spans}
        assert seen == pids
        assert len([one for one in collector.spans if one.kind == "SERVER"]) == 40


def bound(taken: socket.socket) -> int:
    taken.bind(("127.0.0.1", 0))
    return int(taken.getsockname()[1])


def ask(running: Running, field: tuple[str, str]) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", running.port), 10)
    head = "GET /again HTTP/1.1\r\nHost: x\r\n{}: {}\r\n\r\n".format(*field)
    client.sendall(head.encode())
    return client


def test_a_client_that_left_ends_its_call(tmp_path: Path) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        traced(tmp_path / "g", routes=with_route(silent.getsockname()[1])) as (running, collector),
    ):
        silent.settimeout(10)
        field, trace_id = parent(1)
        with ask(running, field):
            upstream, _ = silent.accept()
            upstream.recv(100)
        span = server_span(collector, trace_id)
        upstream.close()
        assert "http.response.status_code" not in span.attributes
        assert span.attributes["error.type"] == span.attributes["authgate.reason"] == "client_gone"


def test_an_answer_that_was_cut_off_says_why(tmp_path: Path) -> None:
    cut = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort"
    with (
        backend(cut) as (port, _),
        traced(tmp_path / "g", routes=with_route(port)) as (running, collector),
    ):
        field, trace_id = parent(2)
        with ask(running, field) as client, suppress(ConnectionError):
            while client.recv(65_536):
                pass
        span = server_span(collector, trace_id)
        assert span.attributes["http.response.status_code"] == 200
        assert span.attributes["authgate.reason"] == "upstream_malformed"


def test_a_collector_that_hangs_costs_no_call_and_delays_no_end(tmp_path: Path) -> None:
    settings = {"OTEL_BSP_MAX_QUEUE_SIZE": "16", "OTEL_EXPORTER_OTLP_TIMEOUT": "30"}
    with traced(tmp_path / "g", **settings) as (running, collector):
        collector.go_on.clear()
        assert running.call("GET", "/public/x").status == 200
        until(lambda: collector.asked > 0, 10)
        asked = collector.asked
        for _ in range(30):
            assert running.call("GET", "/public/x").status == 200
        # Whoever had waited for it would have been answered after 30 s, and it asked again.
        assert collector.asked == asked
        assert sum(metric(running, "authgate_trace_calls_dropped_total")) >= 10
        began_at = time.monotonic()
        running.process.send_signal(signal.SIGTERM)
        running.process.wait(40)
        assert time.monotonic() - began_at < 15


def has_lost(running: Running, spans: int) -> bool:
    return sum(metric(running, "authgate_trace_spans_lost_total")) >= spans


@pytest.mark.parametrize("away", [True, False])
def test_a_collector_that_takes_nothing_is_told_of_once(tmp_path: Path, away: bool) -> None:
    settings = {"OTEL_EXPORTER_OTLP_TIMEOUT": "1"}
    if away:
        settings["OTEL_EXPORTER_OTLP_ENDPOINT"] = f"http://127.0.0.1:{free_port()}"
    with traced(tmp_path / "g", **settings) as (running, collector):
        collector.status = 503
        for number in (1, 2):
            assert running.call("GET", "/public/x").status == 200
            until(partial(has_lost, running, number * 2), 20)
        (told,) = events(running, "traces-not-sent")
        assert told["level"] == "warning"
        assert told["why"]
        assert events(running, "library-remark") == []
        if not away:
            collector.status = 200
            assert running.call("GET", "/public/x").status == 200
            until(lambda: bool(events(running, "traces-sent-again")), 20)


def test_no_secret_of_a_call_is_in_a_span_or_a_log(tmp_path: Path) -> None:
    basic = b64encode(f"user:{SECRET}basic".encode()).decode()
    with traced(tmp_path / "g", GATEWAY_ACCESS_LOG="all") as (running, collector):
        signed_in = running.sign_in("one@example.com", f"{SECRET}password 7 battery")
        token, refresh = signed_in["access_token"], signed_in["refresh_token"]
        cookie = running.call(
            "POST", "/auth/login", ("Sec-Fetch-Site", "same-origin"),
            json_body={"email": "one@example.com", "password": f"{SECRET}password 7 battery", "transport": "cookie"},
        )  # fmt: skip
        session = str(cookie.get("set-cookie")).partition(";")[0]
        calls = [
            running.call("GET", f"/me?access_token={SECRET}query", ("X-Api-Key", f"{SECRET}field"), token=token),
            running.call("GET", "/me", ("Cookie", session), ("Sec-Fetch-Site", "same-origin")),
            running.call("GET", "/me", ("Sec-Fetch-Site", "same-origin"), ("Cookie", f"__Host-session={SECRET}cookie")),
            running.call("GET", "/me", ("Authorization", f"Basic {basic}")),
            running.call("GET", "/me", token=f"{SECRET}.bearer.text"),
            running.call("POST", "/auth/login", json_body={"email": "one@example.com", "password": f"{SECRET}wrong"}),
            running.call("POST", "/auth/refresh", json_body={"refresh_token": f"{SECRET}refresh"}),
            running.call("POST", "/auth/refresh", json_body={"refresh_token": refresh}),
            running.call("POST", "/auth/password/reset", json_body={"token": f"{SECRET}link", "password": "x" * 12}),
            running.raw(f"GET http://user:{SECRET}url@127.0.0.1/me HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()),
        ]  # fmt: skip
        statuses = [answer.status for answer in calls]
        assert statuses == [200, 200, 401, 401, 401, 401, 401, 200, 400, 400]
        for answer in calls:
            request_id = answer.get("x-request-id")
            assert request_id is not None
            until(lambda wanted=request_id: bool(collector.of(wanted)), 10)  # type: ignore[misc]
            until(lambda wanted=request_id: wanted in (running.folder / "out").read_text(), 10)  # type: ignore[misc]
        sent = b"".join(collector.messages)
        logged = running.log.read_bytes() + (running.folder / "out").read_bytes()
        for secret in (SECRET, basic, token, refresh, session.partition("=")[2]):
            assert secret.encode() not in sent
            assert secret.encode() not in logged
        assert b"one@example.com" not in sent


def test_a_question_of_another_proxy_is_a_call(tmp_path: Path) -> None:
    routes = ROUTES.replace(
        "version: 1\n", "version: 1\ndecision_api: {{trusted_peers: [127.0.0.1/32]}}\n", 1
    )
    with traced(tmp_path / "g", routes=routes, GATEWAY_TRACES_SAMPLE="0") as (running, collector):
        asked = (
            ("X-Forwarded-Method", "GET"),
            ("X-Forwarded-Proto", "http"),
            ("X-Forwarded-Host", "a"),
            ("X-Forwarded-For", "192.0.2.1"),
        )
        field, denied = parent(1, flags="00")
        answer = running.admin(
            "/decide/traefik", field, *asked, ("X-Forwarded-Uri", "/me?x=secret")
        )
        assert answer.status == 401
        span = server_span(collector, denied)
        assert span.attributes["url.path"] == "/me"
        assert span.attributes["authgate.reason"] == "no_credential"
        assert answer.json["trace_id"] == denied
        field, allowed = parent(2)
        answer = running.admin("/decide/traefik", field, *asked, ("X-Forwarded-Uri", "/public/x"))
        assert answer.status == 200
        assert server_span(collector, allowed).attributes["authgate.decision"] == "allow"


def test_a_handshake_is_a_call_and_what_the_socket_does_is_not(tmp_path: Path) -> None:
    upgraded = (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
    )
    with (
        backend(upgraded) as (port, heads),
        traced(tmp_path / "g", routes=with_route(port)) as (running, collector),
    ):
        field, trace_id = parent(1)
        with socket.create_connection(("127.0.0.1", running.port)) as client:
            client.sendall(
                b"GET /again HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                b"%b: %b\r\n\r\n" % tuple(map(str.encode, field))
            )
            assert client.recv(65_536).startswith(b"HTTP/1.1 101")
            span = server_span(collector, trace_id)
        assert span.attributes["http.response.status_code"] == 101
        assert trace_id.encode() in heads[0]


def test_a_client_without_http_1_1_or_with_a_body_is_traced_alike(tmp_path: Path) -> None:
    with traced(tmp_path / "g") as (running, collector):
        field, old = parent(1)
        head = "GET /public/x HTTP/1.0\r\nHost: x\r\n{}: {}\r\n\r\n".format(*field)
        assert running.raw(head.encode()).status == 200
        assert server_span(collector, old).attributes["network.protocol.version"] == "1.0"
        field, posted = parent(2)
        assert running.call("POST", "/public/x", field, body=b"a body").status == 200
        server_span(collector, posted)
        (attempt,) = [one for one in collector.of(posted) if one.kind == "CLIENT"]
        assert sent_parent(running) == f"00-{posted}-{attempt.span_id}-01"
