"""A gateway that is told to trace, and the collector that it sends to."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from tests.collector import Collector, ReceivedSpan, collecting
from tests.contract.running import ROUTES, Running, started
from tests.e2e.processes import until

pytestmark = pytest.mark.slow

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"


@contextmanager
def traced(
    folder: Path, *words: str, routes: str = ROUTES, **settings: str
) -> Iterator[tuple[Running, Collector]]:
    with (
        collecting() as collector,
        started(
            folder,
            *words,
            routes=routes,
            **{
                "GATEWAY_TRACES": "otlp",
                "GATEWAY_TRACES_SAMPLE": "1",
                "OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint,
                "OTEL_BSP_SCHEDULE_DELAY": "50",
                **settings,
            },
        ) as running,
    ):
        yield running, collector


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, Collector]]:
    with traced(tmp_path_factory.mktemp("traced") / "g") as both:
        yield both


@pytest.fixture(scope="module")
def rarely(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, Collector]]:
    """What nobody asks to be sampled is not."""
    folder = tmp_path_factory.mktemp("rarely") / "g"
    with traced(folder, GATEWAY_TRACES_SAMPLE="0") as both:
        yield both


def parent(number: int, flags: str = "01") -> tuple[tuple[str, str], str]:
    """A `traceparent` of a trace of its own, and the trace's id."""
    trace_id = f"{TRACE[:-4]}{number:04x}"
    return ("traceparent", f"00-{trace_id}-{PARENT}-{flags}"), trace_id


def server_span(collector: Collector, trace_id: str) -> ReceivedSpan:
    def found() -> list[ReceivedSpan]:
        return [span for span in collector.of(trace_id) if span.kind == "SERVER"]

    until(lambda: bool(found()), 10)
    (span,) = found()
    return span


def sent_parent(running: Running) -> str:
    """The `traceparent` that the upstream has just read."""
    fields = {name.lower(): value for name, value in running.echo.seen[-1]["fields"]}
    return str(fields["traceparent"])


def test_a_call_is_a_span_below_its_callers_with_a_child_for_its_attempt(
    both: tuple[Running, Collector],
) -> None:
    running, collector = both
    token = running.sign_in("one@example.com")["access_token"]
    field, trace_id = parent(1)
    answer = running.call(
        "GET", "/me?secret=in-the-query", field, ("User-Agent", "curl/8.5"),
        ("tracestate", "vendor=7"), ("X-Request-Id", "asked-1"), token=token,
    )  # fmt: skip
    assert answer.status == 200
    span = server_span(collector, trace_id)
    assert (span.name, span.parent_id, span.status) == ("GET /me", PARENT, 0)
    assert span.tracestate == "vendor=7"
    assert span.attributes == {
        "http.request.method": "GET",
        "http.response.status_code": 200,
        "http.route": "/me",
        "url.path": "/me",
        "url.scheme": "http",
        "server.address": "127.0.0.1",
        "client.address": "127.0.0.1",
        "user_agent.original": "curl/8.5",
        "network.protocol.version": "1.1",
        "authgate.request_id": "asked-1",
        "authgate.decision": "allow",
        "authgate.reason": "signed_in",
        "authgate.route": "me",
        "authgate.policy": "signed-in",
        "authgate.rule": "signed-in",
        "authgate.upstream": "echo",
        "authgate.attempts": 1,
    }
    (attempt,) = [one for one in collector.of(trace_id) if one.kind == "CLIENT"]
    assert attempt.parent_id == span.span_id
    assert sent_parent(running) == f"00-{trace_id}-{attempt.span_id}-01"
    assert attempt.attributes["http.response.status_code"] == 200
    assert attempt.attributes["url.full"].endswith("/me")
    assert span.began_ns <= attempt.began_ns <= attempt.ended_ns <= span.ended_ns
    assert span.resource["service.name"] == "authgate"


def test_a_call_without_a_parent_has_a_trace_by_whose_id_it_is_called(
    both: tuple[Running, Collector],
) -> None:
    running, collector = both
    answer = running.call("GET", "/public/x", ("tracestate", "vendor=7"))
    request_id = answer.get("x-request-id")
    assert request_id is not None
    span = server_span(collector, request_id)
    assert (span.parent_id, span.attributes["authgate.request_id"]) == ("", request_id)
    assert sent_parent(running).startswith(f"00-{request_id}-")
    seen = {name.lower() for name, _ in running.echo.seen[-1]["fields"]}
    assert "tracestate" not in seen, "it speaks of a trace that is not this one"


def test_a_refusal_names_its_trace_in_answer_log_and_span(
    both: tuple[Running, Collector],
) -> None:
    running, collector = both
    field, trace_id = parent(2)
    answer = running.call("GET", "/me", field)
    assert answer.status == 401
    assert answer.json["trace_id"] == trace_id
    span = server_span(collector, trace_id)
    assert span.attributes["authgate.decision"] == "deny"
    assert span.attributes["authgate.reason"] == "no_credential"
    assert span.attributes["authgate.request_id"] == answer.json["request_id"]
    assert span.status == 0, "what the client did wrong is no error of a server"
    out = running.folder / "out"
    until(lambda: answer.json["request_id"] in out.read_text(), 5)
    (line,) = [one for one in out.read_text().splitlines() if answer.json["request_id"] in one]
    assert json.loads(line)["trace.id"] == trace_id


def test_a_sign_in_has_its_stores_and_its_hash_as_children(
    both: tuple[Running, Collector],
) -> None:
    running, collector = both
    running.sign_in("two@example.com")
    field, trace_id = parent(3)
    body = {"email": "two@example.com", "password": "correct horse 7 battery"}
    assert running.call("POST", "/auth/login", field, json_body=body).status == 200
    span = server_span(collector, trace_id)
    assert span.name == "POST /auth/login"
    children = [one for one in collector.of(trace_id) if one is not span]
    systems = {one.attributes.get("db.system.name") for one in children}
    assert {"sqlite", "redis"} <= systems
    names = {one.name for one in children}
    assert {"hash password", "transaction"} <= names
    assert any(name.startswith("SELECT ") for name in names)
    known = {one.span_id: one for one in collector.of(trace_id)}
    for child in children:
        above = known[child.parent_id]
        assert above.began_ns <= child.began_ns <= child.ended_ns
    (hashed,) = [one for one in children if one.name == "hash password"]
    assert hashed.parent_id == span.span_id


def test_nothing_is_sent_of_a_good_call_that_is_not_sampled(
    rarely: tuple[Running, Collector],
) -> None:
    running, collector = rarely
    field, trace_id = parent(4, flags="00")
    assert running.call("GET", "/public/x", field).status == 200
    assert sent_parent(running).endswith("-00")
    unasked = running.call("GET", "/public/x").get("x-request-id")
    assert unasked is not None
    assert sent_parent(running).endswith("-00")
    field, sampled = parent(5)
    assert running.call("GET", "/public/x", field).status == 200
    assert sent_parent(running).endswith("-01")
    server_span(collector, sampled)
    assert collector.of(trace_id) == []
    assert collector.of(unasked) == []


def test_a_refusal_and_a_failure_are_sent_though_nothing_is_sampled(
    rarely: tuple[Running, Collector],
) -> None:
    running, collector = rarely
    field, denied = parent(6, flags="00")
    assert running.call("GET", "/me", field).status == 401
    assert server_span(collector, denied).attributes["authgate.reason"] == "no_credential"
    field, failed = parent(7, flags="00")
    assert running.call("GET", "/down", field).status == 502
    span = server_span(collector, failed)
    assert span.attributes["authgate.reason"] == "upstream_unreachable"
    assert span.attributes["error.type"] == "upstream_unreachable"
    assert (span.status, span.attributes["http.route"]) == (2, "/down")
    (attempt,) = [one for one in collector.of(failed) if one.kind == "CLIENT"]
    assert attempt.attributes["error.type"] == "upstream_unreachable"
    wrong = {"email": "nobody@example.com", "password": "not the one"}
    field, guessed = parent(8, flags="00")
    assert running.call("POST", "/auth/login", field, json_body=wrong).status == 401
    assert server_span(collector, guessed).attributes["authgate.reason"] == "invalid_credentials"


def test_a_histogram_names_the_trace_of_a_call_that_it_counted(
    both: tuple[Running, Collector],
) -> None:
    running, collector = both
    field, trace_id = parent(9)
    assert running.call("GET", "/typed/7", field).status == 200
    server_span(collector, trace_id)
    page = running.admin("/metrics", ("Accept", "application/openmetrics-text; version=1.0.0"))
    assert page.get("content-type") == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    named = {
        (sample.name, sample.labels["route"])
        for family in text_string_to_metric_families(page.body.decode())  # type: ignore[no-untyped-call]
        for sample in family.samples
        if sample.exemplar is not None and sample.exemplar.labels == {"trace_id": trace_id}
    }
    assert named == {
        ("authgate_decision_duration_seconds_bucket", "typed"),
        ("authgate_upstream_response_header_seconds_bucket", "typed"),
    }
    plain = running.admin("/metrics")
    assert plain.get("content-type") == "text/plain; version=0.0.4; charset=utf-8"
    assert trace_id not in plain.body.decode()
