"""Each alert rings for its fault, made on running gateways and seen by a real Prometheus."""

from __future__ import annotations

import base64
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml

from tests.certificates import Authority
from tests.contract.echo import Echo
from tests.contract.running import Running, started
from tests.deploy.prometheus import RULES, Prometheus, prometheus, rules, tool
from tests.e2e.processes import edit, metric, until, workers
from tests.ports import free_port
from tests.servers import PostgresServer, ValkeyServer
from tests.turned_clock import TurnedClock

HOUR_S = 3600

pytestmark = pytest.mark.slow

SECRET = base64.b64encode(os.urandom(32)).decode()
ROUTES = """\
version: 1
upstreams:
  echo:
    targets: ["http://127.0.0.1:{port}"]
  nowhere:
    targets: ["http://127.0.0.1:{dead}"]
routes:
  - id: me
    match:
      path: /me
    policy: signed-in
    upstream: echo
  - id: down
    match:
      path: /down
    auth: public
    upstream: nowhere
"""

IN_USE = {
    ("AuthgateConfigurationRejected", "one"),
    ("AuthgateConfigurationsDiffer", ""),
    ("AuthgateUpstreamFailing", "down"),
    ("AuthgateTokensRefused", "one"),
    ("AuthgateWorkersDying", "one"),
    ("AuthgateClockDiffers", "two"),
    ("AuthgateCertificateEnds", "two"),
}
STORES_AWAY = {
    ("AuthgateAccountsFailing", "one"),
    *(("AuthgateSqlAway", node) for node in ("one", "two")),
    *(("AuthgateRedisAway", node) for node in ("one", "two")),
    *(("AuthgateCannotConfirmRevocations", node) for node in ("one", "two")),
    *(("AuthgateWorkerNotReady", node) for node in ("one", "two")),
}
GONE = {("AuthgateNodeGone", "two"), ("AuthgateCertificateRejected", "two")}
UNWATCHED = {("AuthgateNotWatched", "")}
NOT_BROUGHT_ABOUT = {"AuthgateDefect", "AuthgateAuditEventsDropped", "AuthgateIssuerAway"}
"""Only a defect of the gateway, ten thousand events that SQL does not take, or an issuer that is away
for a quarter of an hour."""


@dataclass
class Site:
    """Two nodes on one PostgreSQL and one Valkey; the clock and the certificate of the second
    can be changed."""

    one: Running
    two: Running
    sql: PostgresServer
    redis: ValkeyServer
    authority: Authority
    clock: TurnedClock
    prometheus: Prometheus
    token: str

    def watch(self) -> None:
        nodes = {"one": self.one.admin_port, "two": self.two.admin_port}
        self.prometheus.watch(nodes)

    def good(self) -> None:
        assert self.one.call("GET", "/me", token=self.token).status in (200, 503)

    def forged(self) -> None:
        head, _, signature = self.token.rpartition(".")
        forged = f"{head}.{signature[::-1]}"
        assert self.one.call("GET", "/me", token=forged).status == 401

    def to_the_dead(self) -> None:
        assert self.one.call("GET", "/down").status == 502

    def log_in(self) -> None:
        body = {"email": "a@example.com", "password": "correct horse 7 battery"}
        self.one.call("POST", "/auth/login", json_body=body)

    def certify(self, days: float) -> None:
        self.authority.issue("localhost", until=datetime.now(UTC) + timedelta(days=days))


@pytest.fixture(scope="module")
def watching(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    with prometheus(tmp_path_factory.mktemp("watching") / "prometheus") as started:
        yield started


@pytest.fixture(scope="module")
def site(watching: Prometheus, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("alerts")
    authority = Authority(folder)
    certificate, key = authority.issue("localhost", until=datetime.now(UTC) + timedelta(days=30))
    clock = TurnedClock(folder)
    with ExitStack() as stack:
        place = stack.enter_context(tempfile.TemporaryDirectory(prefix="authgate-alerts-"))
        os.chmod(place, 0o755)
        sql, redis = PostgresServer(Path(place) / "sql"), ValkeyServer(folder / "redis")
        stack.callback(sql.stop)
        stack.callback(redis.kill)
        sql.start()
        redis.start()
        echo = Echo()
        threading.Thread(target=echo.serve_forever, args=(0.05,), daemon=True).start()
        stack.callback(echo.server_close)
        stack.callback(echo.shutdown)
        shared = {
            "GATEWAY_DATABASE_URL": sql.url,
            "GATEWAY_REDIS_URL": redis.url,
            "GATEWAY_KEY_SECRET": SECRET,
            "GATEWAY_PUBLIC_URL": "http://127.0.0.1:8080",
        }
        routes = ROUTES.format(port=echo.server_address[1], dead=free_port())
        tls = {"GATEWAY_TLS_CERT": certificate, "GATEWAY_TLS_KEY": key}
        one = stack.enter_context(
            started(folder / "one", "--workers", "2", routes=routes, **shared)
        )
        two = stack.enter_context(
            started(
                folder / "two",
                "--workers",
                "1",
                routes=routes,
                **shared,
                **tls,
                **clock.environment,
            )
        )
        token = one.sign_in("a@example.com")["access_token"]
        ready = Site(one, two, sql, redis, authority, clock, watching, token)
        ready.watch()
        yield ready


@contextmanager
def again_and_again(*works: Callable[[], object]) -> Iterator[None]:
    """Callers beside the test, until the block ends; some ten calls of each a second."""
    ended = threading.Event()

    def run(work: Callable[[], object]) -> None:
        while not ended.wait(0.1):
            with suppress(OSError):
                work()

    with ThreadPoolExecutor(len(works)) as callers:
        running = [callers.submit(run, work) for work in works]
        try:
            yield
        finally:
            ended.set()
    for one in running:
        one.result()


def rings(watching: Prometheus, wanted: set[tuple[str, str]], *also: tuple[str, str]) -> None:
    """Until all of them ring; nothing else may, but `also` and what an earlier test left."""
    left = watching.firing()
    deadline = time.monotonic() + 40
    while True:
        firing = watching.firing()
        left &= firing
        assert firing <= wanted | left | set(also), firing - wanted - left
        if wanted <= firing:
            return
        assert time.monotonic() < deadline, f"silent: {wanted - firing}"
        threading.Event().wait(0.1)


def test_prometheus_that_asks_nobody_says_so(watching: Prometheus) -> None:
    watching.watch({})
    rings(watching, UNWATCHED)


def test_in_health_none_rings(site: Site) -> None:
    with again_and_again(site.good, site.log_in):
        scraped = 'min(count_over_time(authgate_ready{job="authgate"}[20s]))'
        until(lambda: site.prometheus.value(scraped) >= 5, 40)
    assert site.prometheus.value("min(authgate_ready)") == 1
    until(lambda: UNWATCHED.isdisjoint(site.prometheus.firing()), 10)
    assert site.prometheus.firing() == set()


def test_what_goes_wrong_in_use_rings_and_nothing_else_does(site: Site) -> None:
    one, two = site.one, site.two
    before = (one.folder / "routes.yaml").read_text("utf-8")
    try:
        edit(one, lambda text: text.replace("policy: signed-in", "policy: no-such-policy"))
        edit(
            two,
            lambda text: (
                text + "  - {id: new, match: {path: /new}, auth: public, upstream: echo}\n"
            ),
        )
        site.clock.turn(-HOUR_S)
        site.certify(days=3)
        with again_and_again(site.forged, site.to_the_dead):
            for deaths in (1, 2, 3):
                os.kill(workers(one)[0], signal.SIGKILL)
                until(lambda: len(workers(one)) == 2, 20)
                until(
                    lambda n=deaths: metric(one, "authgate_worker_restarts_total") == [n],  # type: ignore[misc]
                    20,
                )
            rings(site.prometheus, IN_USE, ("AuthgateWorkerNotReady", "one"))
    finally:
        site.clock.turn(0)
        site.certify(days=30)
        for node in (one, two):
            (node.folder / "routes.yaml").write_text(before)


def test_stores_that_are_away_ring_and_no_upstream_is_blamed(site: Site) -> None:
    site.sql.kill()
    site.redis.freeze()
    try:
        with again_and_again(site.good, site.log_in):
            rings(site.prometheus, STORES_AWAY)
    finally:
        site.redis.thaw()
        site.sql.start_again()
    until(lambda: workers(site.one) != [] and workers(site.two) != [], 40)


def test_a_broken_certificate_rings_and_a_node_that_is_gone(site: Site) -> None:
    (site.authority.folder / "localhost.key").write_text("no key")
    rings(site.prometheus, {("AuthgateCertificateRejected", "two")})
    site.two.process.kill()
    rings(site.prometheus, {("AuthgateNodeGone", "two")})


def test_each_alert_is_proved() -> None:
    proved = {name for name, _ in IN_USE | STORES_AWAY | GONE | UNWATCHED} | NOT_BROUGHT_ABOUT
    assert proved == {rule["alert"] for rule in rules()}


def test_the_rules_are_what_prometheus_takes() -> None:
    checked = subprocess.run(
        [tool("promtool"), "check", "rules", str(RULES)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def series(name: str, values: str, **labels: str) -> dict[str, str]:
    pairs = ",".join(f'{key}="{value}"' for key, value in {"instance": "one", **labels}.items())
    return {"series": f"{name}{{{pairs}}}", "values": values}


@pytest.mark.parametrize(
    ("alert", "told", "minutes", "fires"),
    [
        ("AuthgateDefect", [series("authgate_defects_total", "0 0 1+0x9", where="answer")], 5, 1),
        ("AuthgateDefect", [series("authgate_defects_total", "0 0 1+0x19", where="answer")], 15, 0),
        ("AuthgateDefect", [series("authgate_defects_total", "7+0x9", where="answer")], 5, 0),
        (
            "AuthgateIssuerAway",
            [
                series("authgate_issuer_fetches_total", "1+0x30", issuer="a", outcome="ok"),
                series("authgate_issuer_fetches_total", "0+1x30", issuer="a", outcome="unreachable"),
            ],
            30,
            1,
        ),
        (
            "AuthgateIssuerAway",
            [
                series("authgate_issuer_fetches_total", "1 1 1 1 1 2+0x30", issuer="a", outcome="ok"),
                series("authgate_issuer_fetches_total", "0 4 8 12+0x30", issuer="a", outcome="refused"),
            ],
            12,
            0,
        ),
        ("AuthgateAuditEventsDropped", [series("authgate_audit_events_dropped_total", "0 0 9+0x9")], 5, 1),
        (
            "AuthgateUpstreamFailing",
            [
                series("authgate_requests_total", "0+60x20", route="a", status="200", outcome="signed_in"),
                series("authgate_requests_total", "0+60x20", route="a", status="503", outcome="replica_stale"),
            ],
            10,
            0,
        ),
        (
            "AuthgateUpstreamFailing",
            [
                series("authgate_requests_total", "0+60x20", route="a", status="200", outcome="signed_in"),
                series("authgate_requests_total", "0+60x20", route="a", status="503", outcome="rule_allowed"),
            ],
            10,
            1,
        ),
        ("AuthgateWorkersDying", [series("authgate_worker_restarts_total", "0 1 1 2 2+0x9")], 10, 0),
        ("AuthgateWorkersDying", [series("authgate_worker_restarts_total", "0 1 2 3 3+0x9")], 10, 1),
    ],
)  # fmt: skip
def test_with_its_real_durations_an_alert_rings_when_it_should(
    tmp_path: Path, alert: str, told: list[dict[str, str]], minutes: int, fires: int
) -> None:
    case = {
        "rule_files": [str(RULES)],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": told,
                "promql_expr_test": [
                    {
                        "expr": f'count(ALERTS{{alertname="{alert}",alertstate="firing"}}) or vector(0)',
                        "eval_time": f"{minutes}m",
                        "exp_samples": [{"labels": "{}", "value": fires}],
                    }
                ],
            }
        ],
    }  # fmt: skip
    (tmp_path / "case.yaml").write_text(yaml.safe_dump(case))
    tested = subprocess.run(
        [tool("promtool"), "test", "rules", str(tmp_path / "case.yaml")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert tested.returncode == 0, tested.stdout + tested.stderr
