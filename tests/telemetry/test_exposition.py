"""The metrics of all workers as a scraper asks for them, and the traces that they name."""

from __future__ import annotations

import json

import pytest
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST as OPENMETRICS
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from gateway.telemetry.exposition import CONTENT_TYPE, exposition, media_type_for
from gateway.telemetry.metrics import Histogram, Metrics


def exemplars(*metrics: Metrics) -> dict[tuple[str, str], tuple[str, float]]:
    """(sample, bound) -> (trace, value), once the states have travelled as JSON."""
    states = [json.loads(json.dumps(one.state())) for one in metrics]
    text = exposition(states, OPENMETRICS).decode()
    return {
        (sample.name, sample.labels["le"]): (
            sample.exemplar.labels["trace_id"],
            sample.exemplar.value,
        )
        for family in text_string_to_metric_families(text)  # type: ignore[no-untyped-call]
        for sample in family.samples
        if sample.exemplar is not None
    }


def counted(histogram: Histogram, value: float, trace_id: str, at: float) -> None:
    histogram.observe(value)
    place = [value <= bound for bound in histogram.bounds].index(True)
    histogram.exemplars = {**(histogram.exemplars or {}), place: (trace_id, value, at)}


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("", CONTENT_TYPE),
        ("*/*", CONTENT_TYPE),
        ("text/plain; version=0.0.4", CONTENT_TYPE),
        ("application/openmetrics-text", OPENMETRICS),
        ("application/openmetrics-text; version=1.0.0; charset=utf-8", OPENMETRICS),
        ("application/openmetrics-text; version=0.0.1", CONTENT_TYPE),
        ("application/openmetrics-text;q=0.1, text/plain;q=0.9", CONTENT_TYPE),
        ("application/openmetrics-text;q=0", CONTENT_TYPE),
        ("application/openmetrics-text;q=x", CONTENT_TYPE),
        # What Prometheus 3 sends.
        (
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
            "application/openmetrics-text;version=0.0.1;q=0.5,"
            "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,"
            "*/*;q=0.2",
            OPENMETRICS,
        ),
    ],
)
def test_a_scraper_is_answered_as_it_asks(accept: str, media_type: str) -> None:
    assert media_type_for(accept) == media_type


def test_a_bucket_names_the_newest_trace_of_all_workers() -> None:
    one, other = Metrics(), Metrics()
    counted(one.histogram("work_seconds", "Work.", (0.1, 1.0)), 0.05, "a" * 32, 100.0)
    counted(one.histogram("work_seconds", "Work.", (0.1, 1.0)), 0.5, "b" * 32, 100.0)
    counted(other.histogram("work_seconds", "Work.", (0.1, 1.0)), 0.7, "c" * 32, 101.0)
    assert exemplars(one, other) == {
        ("authgate_work_seconds_bucket", "0.1"): ("a" * 32, 0.05),
        ("authgate_work_seconds_bucket", "1.0"): ("c" * 32, 0.7),
    }
    assert exemplars(other, one) == exemplars(one, other)


def test_what_no_trace_was_counted_in_names_none() -> None:
    metrics = Metrics()
    metrics.route("a").record("route_public", 200, 0.001, 0.01)
    assert exemplars(metrics) == {}
    assert "exemplars" in metrics.state()


def test_every_family_can_be_read_as_openmetrics() -> None:
    metrics = Metrics()
    metrics.route("a").record("route_public", 200, 0.001, 0.01)
    metrics.record_endpoint("/auth/login", "ok", 200, 0.1)
    metrics.tally("sign_ins", "Sign-ins.", result="good").n += 1
    metrics.gauge("config_stale", "Stale.", lambda: 0.0)
    metrics.info("build", "What runs.", lambda: {"version": "1"})
    text = exposition([metrics.state()], OPENMETRICS).decode()
    names = {family.name for family in text_string_to_metric_families(text)}  # type: ignore[no-untyped-call]
    assert {"authgate_requests", "authgate_sign_ins", "authgate_config_stale"} <= names
    assert text.endswith("# EOF\n")
