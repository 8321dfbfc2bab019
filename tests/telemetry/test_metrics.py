"""Counts: cheap to step, the same whoever answers, and in the format of Prometheus."""

from __future__ import annotations

import json

from prometheus_client.parser import text_string_to_metric_families

from gateway.telemetry.exposition import exposition
from gateway.telemetry.metrics import DECISION_BOUNDS_S, Histogram, Metrics
from tests.cpu_cost import cost_ratio


def samples(*metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """What a scraper reads, once the states have travelled as JSON."""
    states = [json.loads(json.dumps(one.state())) for one in metrics]
    for number, state in enumerate(states):
        state["worker"] = str(number)
    text = exposition(states).decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_answers_are_counted_by_route_outcome_and_status() -> None:
    metrics = Metrics()
    metrics.route("orders").record("rule_allowed", 200, 0.0001, 0.01)
    metrics.route("orders").record("rule_allowed", 200, 0.0001, 0.01)
    metrics.route("orders").record("no_rule", 403, 0.0001)
    found = samples(metrics)
    allowed = (("outcome", "rule_allowed"), ("route", "orders"), ("status", "200"))
    denied = (("outcome", "no_rule"), ("route", "orders"), ("status", "403"))
    assert found["authgate_requests_total", allowed] == 2
    assert found["authgate_requests_total", denied] == 1


def test_the_counts_of_all_workers_are_added_up() -> None:
    one, other = Metrics(), Metrics()
    for metrics, n in ((one, 2), (other, 3)):
        metrics.tally("sign_ins", "Sign-ins.", result="good").n += n
        metrics.route("a").record("route_public", 200, 0.001)
        metrics.histogram("hash_seconds", "Time to hash.", (0.1, 1.0)).observe(0.5)
    found = samples(one, other)
    assert found["authgate_sign_ins_total", (("result", "good"),)] == 5
    assert found["authgate_decision_duration_seconds_count", (("route", "a"),)] == 2
    assert found["authgate_hash_seconds_bucket", (("le", "1.0"),)] == 2
    assert found["authgate_hash_seconds_bucket", (("le", "0.1"),)] == 0


def test_a_gauge_shows_each_worker() -> None:
    one, other = Metrics(), Metrics()
    one.gauge("config_stale", "Stale.", lambda: 0.0)
    other.gauge("config_stale", "Stale.", lambda: 1.0)
    found = samples(one, other)
    assert found["authgate_config_stale", (("worker", "0"),)] == 0
    assert found["authgate_config_stale", (("worker", "1"),)] == 1


def test_a_value_on_a_bound_is_counted_below_it() -> None:
    histogram = Histogram((1.0, 2.0))
    for value in (1.0, 1.5, 2.0, 2.5):
        histogram.observe(value)
    assert histogram.counts == [1, 2, 1]


def test_a_route_keeps_its_meter() -> None:
    """No count goes back when the configuration is read again."""
    metrics = Metrics()
    assert metrics.route("orders") is metrics.route("orders")


def test_a_route_named_by_an_operator_cannot_break_the_text() -> None:
    metrics = Metrics()
    metrics.route('a"\n}\\').record("route_public", 200, DECISION_BOUNDS_S[0])
    labels = (("outcome", "route_public"), ("route", 'a"\n}\\'), ("status", "200"))
    assert samples(metrics)["authgate_requests_total", labels] == 1


def test_to_record_an_answer_costs_some_turns_of_a_loop() -> None:
    meter = Metrics().route("orders")

    def record() -> None:
        for _ in range(1_000):
            meter.record("rule_allowed", 200, 4e-5, 3e-3)

    assert cost_ratio(record) < 5


def test_a_number_of_the_node_is_told_once_and_by_the_worker_that_knows_best() -> None:
    one, other = Metrics(), Metrics()
    for metrics, n in ((one, 3), (other, 2)):
        metrics.node("worker_restarts", "Workers that died.", lambda n=n: n)  # type: ignore[misc]
    assert samples(one, other)["authgate_worker_restarts_total", ()] == 3


def test_workers_that_agree_are_told_of_once_and_others_each() -> None:
    one, other, third = Metrics(), Metrics(), Metrics()
    for metrics, version in ((one, "a"), (other, "a"), (third, "b")):
        metrics.info("config", "What runs.", lambda v=version: {"version": v})  # type: ignore[misc]
    found = [labels for name, labels in samples(one, other, third) if "config_info" in name]
    assert found == [(("version", "a"),), (("version", "b"),)]


def test_each_worker_is_told_of_as_a_process() -> None:
    found = samples(Metrics(), Metrics())
    for name in ("process_resident_memory_bytes", "process_cpu_seconds_total", "process_open_fds"):
        assert found[name, (("worker", "0"),)] > 0
        assert found[name, (("worker", "1"),)] > 0


def test_an_own_answer_is_counted_under_the_same_child_each_time() -> None:
    metrics = Metrics()
    for _ in range(2):
        metrics.record_endpoint("/auth/login", "ok", 200, 0.1)
    labels = (("endpoint", "/auth/login"), ("outcome", "ok"), ("status", "200"))
    found = samples(metrics)
    assert found["authgate_endpoint_requests_total", labels] == 2
    assert found["authgate_endpoint_duration_seconds_count", (("endpoint", "/auth/login"),)] == 2


def test_a_gauge_may_be_of_several_things_that_come_and_go() -> None:
    ages = {"company": 7.0, "ci": float("inf")}
    metrics = Metrics()
    metrics.labelled_gauge("issuer_keys_age_seconds", "Since.", "issuer", lambda: ages)
    named = "authgate_issuer_keys_age_seconds"
    found = samples(metrics, Metrics())
    assert found[named, (("issuer", "company"), ("worker", "0"))] == 7.0
    assert found[named, (("issuer", "ci"), ("worker", "0"))] == float("inf")
    ages.clear()
    assert not [name for name, _ in samples(metrics) if name == named]
