"""Which classes a worker is built of: the plain ones, or with traces on those that trace.

Law: without traces nothing of this is on the way of a call; the choice is made once, here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING

from gateway.app.settings import Settings
from gateway.app.trace_settings import BATCH, DELAY_MS, QUEUE, is_disabled, number_of
from gateway.edge.admin.decision_point import DecisionPoint
from gateway.edge.admin.traced_decision_point import TracedDecisionPoint
from gateway.edge.proxy.forwarder import Forwarder
from gateway.edge.proxy.request import CallReader
from gateway.edge.proxy.traced_handler import (
    TracedCallReader,
    TracedForwarder,
    TracedHandler,
)
from gateway.edge.replies.observers import RequestMetrics
from gateway.edge.replies.problem_types import ProblemTypes, TracedProblemTypes
from gateway.edge.server.handler import Handler
from gateway.identity.accounts.hashing_threads import HashingThreads, TracedHashingThreads
from gateway.identity.issuers.fetching import Fetcher
from gateway.identity.issuers.form_posts import FormPoster
from gateway.identity.issuers.traced_fetching import TracedFetcher, TracedFormPoster
from gateway.identity.providers.asking import ProviderServers
from gateway.identity.providers.traced_asking import TracedProviderServers
from gateway.model import Clock
from gateway.stores.protocols import Database
from gateway.stores.redis import RedisStore
from gateway.stores.traced import TracedDatabase, TracedRedis
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.trace_thread import TraceThread
from gateway.telemetry.traced_metrics import TracedMetrics
from gateway.telemetry.tracer import TraceOptions, Tracer

if TYPE_CHECKING:
    from gateway.telemetry.otlp import OtlpSender


@dataclass(frozen=True, slots=True)
class Tracing:
    """What a worker has where traces are on."""

    tracer: Tracer
    thread: TraceThread
    metrics: TracedMetrics


class WorkerClasses:
    """The classes of one worker.  Made after its fork."""

    redis: type[RedisStore] = RedisStore
    fetcher: type[Fetcher] = Fetcher
    form_poster: type[FormPoster] = FormPoster
    provider_servers: type[ProviderServers] = ProviderServers
    hashing: type[HashingThreads] = HashingThreads
    reader: type[CallReader] = CallReader
    problem_types: type[ProblemTypes] = ProblemTypes
    tracing: Tracing | None = None

    def __init__(self, metrics: Metrics) -> None:
        self.forwarder: Callable[..., Forwarder] = Forwarder
        self.decision_point: Callable[..., DecisionPoint] = DecisionPoint
        self.request_metrics: RequestMetrics = metrics
        self.record_endpoint: Callable[[str, str, int, float], None] = metrics.record_endpoint

    def database(self, database: Database) -> Database:
        return database

    def handler(self, handler: Handler, *, trusted: bool = False) -> Handler:
        """As it is to be asked by a listener; `trusted` as of `TracedHandler`."""
        del trusted
        return handler


class TracedWorkerClasses(WorkerClasses):
    redis = TracedRedis
    fetcher = TracedFetcher
    form_poster = TracedFormPoster
    provider_servers = TracedProviderServers
    hashing = TracedHashingThreads
    reader = TracedCallReader
    problem_types = TracedProblemTypes

    def __init__(self, metrics: Metrics, tracing: Tracing) -> None:
        self.tracing = tracing
        self.forwarder = partial(TracedForwarder, tracer=tracing.tracer)
        self.decision_point = partial(TracedDecisionPoint, tracer=tracing.tracer)
        self.request_metrics = tracing.metrics
        self.record_endpoint = tracing.metrics.record_endpoint

    def database(self, database: Database) -> Database:
        return TracedDatabase(database)

    def handler(self, handler: Handler, *, trusted: bool = False) -> Handler:
        assert self.tracing is not None
        return TracedHandler(handler, self.tracing.tracer, trusted=trusted)


def classes_of(settings: Settings, metrics: Metrics, clock: Clock) -> WorkerClasses:
    if settings.traces == "off" or is_disabled():
        return WorkerClasses(metrics)
    options = TraceOptions(
        sample=settings.traces_sample,
        believes_anyone=settings.traces_parent == "any",
        queue=number_of(QUEUE),
        batch=number_of(BATCH),
        delay_s=number_of(DELAY_MS) / 1000,
    )
    tracer = Tracer(
        options,
        clock.now,
        dropped=metrics.tally(
            "trace_calls_dropped", "Calls whose trace found no room in the queue."
        ),
    )
    thread = TraceThread(
        tracer,
        options,
        lambda: _sender(options.batch),
        taken=metrics.tally("trace_spans_sent", "Spans that the collector has taken."),
        lost=metrics.tally("trace_spans_lost", "Spans that the collector did not take."),
    )
    return TracedWorkerClasses(metrics, Tracing(tracer, thread, TracedMetrics(metrics)))


def check_traces(settings: Settings) -> None:
    """Raises ValueError where nothing can be sent by the variables that there are.  In the master,
    so that its workers share what is loaded for it."""
    if settings.traces == "off" or is_disabled():
        return
    sender = _sender(1)
    sender.close()
    if sender.remark:
        raise ValueError(f"GATEWAY_TRACES: {sender.remark}")


def _sender(batch: int) -> OtlpSender:
    # Half a second and some MB that nobody pays for who wants no traces.
    from gateway.telemetry.otlp import OtlpSender

    return OtlpSender(version("authgate"), batch)
