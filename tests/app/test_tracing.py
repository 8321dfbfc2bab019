"""What a worker is built of with traces and without, and what is refused at the start."""

from __future__ import annotations

import subprocess
import sys

import pytest

from gateway.app.settings import Settings, SettingsError, load
from gateway.app.trace_settings import trace_problems
from gateway.app.tracing import TracedWorkerClasses, WorkerClasses, check_traces, classes_of
from gateway.edge.admin.decision_point import DecisionPoint
from gateway.edge.proxy.forwarder import Forwarder
from gateway.edge.proxy.request import CallReader
from gateway.edge.replies.problem_types import ProblemTypes
from gateway.identity.accounts.hashing_threads import HashingThreads
from gateway.identity.issuers.fetching import Fetcher
from gateway.identity.issuers.form_posts import FormPoster
from gateway.identity.providers.asking import ProviderServers
from gateway.model import SystemClock
from gateway.stores.redis import RedisStore
from gateway.telemetry.metrics import Metrics


def test_without_traces_a_worker_is_built_of_the_plain_classes() -> None:
    metrics = Metrics()
    chosen = classes_of(load({}, env_file=None), metrics, SystemClock())
    assert type(chosen) is WorkerClasses
    assert chosen.tracing is None
    assert chosen.request_metrics is metrics
    assert chosen.record_endpoint == metrics.record_endpoint
    plain = (
        chosen.redis, chosen.fetcher, chosen.form_poster, chosen.provider_servers,
        chosen.hashing, chosen.reader, chosen.forwarder, chosen.decision_point,
        chosen.problem_types,
    )  # fmt: skip
    assert plain == (
        RedisStore, Fetcher, FormPoster, ProviderServers, HashingThreads, CallReader, Forwarder,
        DecisionPoint, ProblemTypes,
    )  # fmt: skip
    store, handler = object(), object()
    assert chosen.database(store) is store  # type: ignore[arg-type]
    assert chosen.handler(handler) is handler  # type: ignore[arg-type]


def test_each_class_has_one_that_traces() -> None:
    plain = {name for name in vars(WorkerClasses) if isinstance(vars(WorkerClasses)[name], type)}
    assert plain == {
        name
        for name in vars(TracedWorkerClasses)
        if isinstance(vars(TracedWorkerClasses)[name], type)
    }


def test_nothing_of_opentelemetry_is_loaded_without_traces() -> None:
    told = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys, gateway.cli.serve, gateway.app.worker_process;"
            # Where it is installed, redis-py loads its interface by itself.
            "print([name for name in sys.modules if name.startswith(("
            "'opentelemetry.sdk.trace', 'opentelemetry.exporter', 'gateway.telemetry.otlp'))])",
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert told.stdout == "[]\n"


def test_opentelemetrys_own_switch_turns_traces_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    chosen = classes_of(Settings(traces="otlp"), Metrics(), SystemClock())
    assert chosen.tracing is None


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"GATEWAY_TRACES": "jaeger"}, "GATEWAY_TRACES"),
        ({"GATEWAY_TRACES_SAMPLE": "2"}, "GATEWAY_TRACES_SAMPLE"),
        ({"GATEWAY_TRACES_SAMPLE": "off"}, "GATEWAY_TRACES_SAMPLE"),
        ({"GATEWAY_TRACES_PARENT": "all"}, "GATEWAY_TRACES_PARENT"),
        (
            {"GATEWAY_TRACES": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
            "OTEL_EXPORTER_OTLP_PROTOCOL",
        ),
        ({"GATEWAY_TRACES": "otlp", "OTEL_BSP_SCHEDULE_DELAY": "soon"}, "OTEL_BSP_SCHEDULE_DELAY"),
        (
            {"GATEWAY_TRACES": "otlp", "OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4318"},
            "OTEL_EXPORTER_OTLP_ENDPOINT",
        ),
        (
            {"GATEWAY_TRACES": "otlp", "OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE": "/no/file"},
            "OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE",
        ),
        ({"GATEWAY_TRACES": "otlp", "OTEL_BSP_MAX_QUEUE_SIZE": "1"}, "OTEL_BSP_MAX_QUEUE_SIZE"),
    ],
)
def test_what_is_wrong_is_named(given: dict[str, str], named: str) -> None:
    with pytest.raises(SettingsError) as refused:
        load(given, env_file=None)
    assert [problem.name for problem in refused.value.problems] == [named]


def test_what_traces_would_be_sent_by_does_not_matter_without_them() -> None:
    load({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, env_file=None)


def test_the_extra_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.app.trace_settings._EXPORTER", "opentelemetry.no_such.exporter")
    (problem,) = trace_problems({})
    assert "pip install 'authgate[otel]'" in problem.text


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "zip", "compression"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "soon", "timeout"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "a-secret-key", "OTEL_EXPORTER_OTLP_HEADERS"),
    ],
)
def test_what_the_exporter_would_pass_over_ends_the_start(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, told: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=f"(?i)GATEWAY_TRACES: .*{told}") as refused:
        check_traces(Settings(traces="otlp"))
    assert "secret" not in str(refused.value)
    check_traces(Settings())
