"""The pods of the chart with the real gateway in them, on a real PostgreSQL and a real Valkey; of the
cluster there is what a kubelet, a Service and a rolling update do (tests/deploy/kubelet.py)."""

from __future__ import annotations

import base64
import copy
import itertools
import json
import os
import re
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.certificates import self_signed
from tests.contract.answers import Answer, read_answer
from tests.contract.echo import Echo
from tests.deploy.helm import (
    EXAMPLES,
    FULLNAME,
    NAMESPACE,
    ROOT,
    Helm,
    Manifest,
    example,
    one,
    pods,
    started_helm,
)
from tests.deploy.kubelet import Objects, Pod, run_job
from tests.e2e.processes import until
from tests.fixtures_stores import schema_of
from tests.ports import free_port
from tests.servers import ValkeyServer

pytestmark = pytest.mark.slow

PAGE = ROOT / "docs" / "operations" / "kubernetes.md"
HOST = "gateway.example.com"
LAG_S = 2.0
"""For how long proxies still send calls to a pod that is to end."""


def blocks(language: str) -> list[str]:
    """Of the page, in their order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text("utf-8"), re.M | re.S)


ROUTES, POLICY, VALUES = blocks("yaml")[:3]


@dataclass
class Cluster:
    helm: Helm
    objects: Objects
    folder: Path
    echo: Echo
    _count: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    def values(self, **changes: Any) -> Manifest:
        """Those of the page, and what makes a start quick; stores and hashes are real."""
        values: Manifest = yaml.safe_load(VALUES)
        settings = {"GATEWAY_SIGNING_ALG": "EdDSA", "GATEWAY_BCRYPT_ROUNDS": 10}
        return {
            **values,
            "settings": settings,
            "drain": {"preStopSeconds": 1, "seconds": 2},
            **changes,
        }

    def job(self, values: Manifest) -> list[subprocess.CompletedProcess[str]]:
        """What Helm runs before an install or an upgrade."""
        manifests = self.helm.rendered(values)
        hooks = [m for m in manifests if "helm.sh/hook" in m["metadata"].get("annotations", {})]
        self.objects.apply(hooks)
        return run_job(pods([one(hooks, "Job")])[0], self.objects, self._fresh())

    def pod(self, values: Manifest) -> Pod:
        manifests = self.helm.rendered(values)
        self.objects.apply(manifests)
        spec = pods([one(manifests, "Deployment")])[0]
        number = next(self._count)
        return Pod(spec, self.objects, self._fresh(), ip=f"10.244.1.{number}")

    def _fresh(self) -> Path:
        return self.folder / f"pod-{next(self._count)}"


@pytest.fixture(scope="module")
def cluster(postgres_database_url: str) -> Iterator[Cluster]:
    echo = Echo()
    threading.Thread(target=echo.serve_forever, args=(0.05,), daemon=True).start()
    with (
        started_helm() as helm,
        schema_of(postgres_database_url) as url,
        # Not pytest's: another uid than ours cannot enter that.
        tempfile.TemporaryDirectory(prefix="authgate-pods-") as place,
    ):
        folder = Path(place)
        folder.chmod(0o755)
        valkey = ValkeyServer(folder / "valkey").start()
        secret = {
            "key-secret": base64.b64encode(os.urandom(32)).decode(),
            "database-url": url,
            "redis-url": valkey.url,
        }
        routes = ROUTES.replace("orders.shop.svc:8000", f"127.0.0.1:{echo.server_address[1]}")
        assert routes != ROUTES
        maps = {"authgate-config": {"routes.yaml": routes, "orders.yaml": POLICY}}
        try:
            yield Cluster(helm, Objects(maps, {"authgate": secret}), folder, echo)
        finally:
            valkey.kill()
    echo.shutdown()
    echo.server_close()


def call(pod: Pod, path: str, *fields: str, body: Any = None) -> Answer:
    """Of the public port, with the name that the Ingress would keep."""
    text = b"" if body is None else json.dumps(body).encode()
    lines = [
        f"{'POST' if text else 'GET'} {path} HTTP/1.1",
        f"Host: {HOST}",
        "Connection: close",
        *fields,
    ]
    if text:
        lines += ["Content-Type: application/json", f"Content-Length: {len(text)}"]
    with socket.create_connection(("127.0.0.1", pod.public), timeout=10) as sock:
        sock.sendall("\r\n".join([*lines, "", ""]).encode() + text)
        return read_answer(sock.makefile("rb"), "GET")


@pytest.fixture(scope="module")
def installed(cluster: Cluster) -> Iterator[Pod]:
    """The Job has run, and a first pod decides."""
    done = cluster.job(cluster.values())
    assert [each.returncode for each in done] == [0, 0], done
    pod = cluster.pod(cluster.values())
    pod.start()
    try:
        become_ready(pod)
        yield pod
    finally:
        pod.kill()


@pytest.fixture(autouse=True)
def as_it_was(cluster: Cluster) -> Iterator[None]:
    """Each test finds the ConfigMaps that the first has found."""
    before = copy.deepcopy(cluster.objects.config_maps)
    yield
    cluster.objects.config_maps = before


def become_ready(pod: Pod) -> None:
    """As the kubelet waits for it: alive first, then ready."""

    def good(probe: str) -> bool:
        assert pod.process is not None
        assert pod.process.poll() is None, pod.log
        return pod.probe(probe)

    startup = pod.container["startupProbe"]
    until(lambda: good("startupProbe"), startup["periodSeconds"] * startup["failureThreshold"])
    until(lambda: good("readinessProbe"), 60)
    assert good("livenessProbe")


def version(pod: Pod) -> str:
    (worker,) = pod.ask("/readyz").json["workers"]
    return str(worker["configuration"]["version"])


def stale(pod: Pod) -> bytes:
    """Whether the files are wrong, as Prometheus is told."""
    found = re.search(rb"^authgate_config_stale{[^}]*} ([01])", pod.ask("/metrics").body, re.M)
    return found[1] if found else b""


def edited(cluster: Cluster, change: Callable[[str], str]) -> None:
    """`kubectl edit configmap`."""
    of = cluster.objects.config_maps["authgate-config"]
    of["routes.yaml"] = change(of["routes.yaml"])


# --- from nothing to a signed-in call ---


def test_the_page_has_the_values_of_the_smallest_example() -> None:
    assert (EXAMPLES / "minimal.yaml").read_text("utf-8") == VALUES


def test_the_page_leads_to_a_signed_in_call(installed: Pod) -> None:
    words = re.search(
        r"echo '(.*)' \|.*?-- \\\n +(gateway users create .*?)\n", "".join(blocks("sh")), re.S
    )
    assert words is not None
    made = installed.execute(words[2].split(), stdin=words[1] + "\n")
    assert made.returncode == 0, made.stderr
    lines = next(block for block in blocks("sh") if "/auth/login" in block)
    answer = subprocess.run(
        ["sh", "-ec", lines.replace("127.0.0.1:8080", f"127.0.0.1:{installed.public}")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(answer.stdout)["target"] == "/v1/orders/7"
    assert call(installed, "/v1/orders/7").status == 401


def test_the_kubelet_and_prometheus_are_answered_and_a_foreign_page_is_not(installed: Pod) -> None:
    """By the address of the pod and the names of the Service, whatever `GATEWAY_ADMIN_LISTEN` is."""
    admin = f"{FULLNAME}-admin.{NAMESPACE}"
    for host in ("", f"{admin}:9901", f"{admin}.svc:9901", f"{admin}.svc.cluster.local:9901"):
        assert installed.ask("/metrics", host=host).status == 200
    assert installed.ask("/metrics", host="rebound.example.com:9901").status == 403
    assert installed.ask("/admin").status in (403, 404)


def test_a_command_in_a_pod_finds_the_installation(installed: Pod) -> None:
    assert installed.execute(["gateway", "db", "status"]).returncode == 0
    explained = installed.execute(
        ["gateway", "explain", "GET", "/v1/orders/7", "--user-id", "ada", "--roles", "viewer"]
    )
    assert explained.returncode == 0, explained.stdout + explained.stderr


def test_the_gateway_writes_to_its_data_folder_alone(installed: Pod) -> None:
    """The folder of the volume is root's: what the gateway keeps lies in one of its own, 0700."""
    data = installed.folder / "data" / "data"
    assert data.stat().st_mode & 0o777 == 0o700
    if os.geteuid() == 0:
        assert data.stat().st_uid == 10001
    written = {path for path in (installed.folder / "config").rglob("*") if not path.is_symlink()}
    assert {path.name for path in written if path.is_file()} == {"routes.yaml", "orders.yaml"}


def test_a_pod_that_is_made_while_the_stores_are_away_waits_for_them(cluster: Cluster) -> None:
    """It lives, and is not ready: no probe has it started again and again.  The Job is tried again."""
    away = {
        "database-url": f"postgresql://a:b@127.0.0.1:{free_port()}/x",
        "redis-url": f"redis://127.0.0.1:{free_port()}",
    }
    known = cluster.objects.secrets["authgate"]
    cluster.objects.secrets["authgate"] = {**known, **away}
    try:
        assert [each.returncode for each in cluster.job(cluster.values())] == [0, 3]
        pod = cluster.pod(cluster.values())
        pod.start()
        try:
            until(lambda: pod.probe("startupProbe"), 60)
            assert pod.probe("livenessProbe")
            assert not pod.probe("readinessProbe")
            public = call(pod, "/nowhere")
            assert public.status == 404
        finally:
            pod.kill()
    finally:
        cluster.objects.secrets["authgate"] = known


# --- the configuration ---


def test_an_edit_of_the_config_map_is_taken_without_a_restart(
    cluster: Cluster, installed: Pod
) -> None:
    before = version(installed)
    edited(
        cluster,
        lambda text: (
            text
            + "  - id: open\n    match: {path: /open}\n    auth: public\n    upstream: orders\n"
        ),
    )
    installed.sync()
    until(lambda: version(installed) != before, 15)
    assert call(installed, "/open").status == 200


def test_files_that_belong_together_are_never_seen_apart(cluster: Cluster, installed: Pod) -> None:
    """A route comes with its policy, again and again: at no moment is one there without the other."""
    maps = cluster.objects.config_maps["authgate-config"]
    before, problems = dict(maps), installed.log.count("configuration-problem")
    for name in ("a", "b", "c"):
        maps["orders.yaml"] = POLICY.replace("policy: orders", f"policy: orders-{name}")
        maps["routes.yaml"] = before["routes.yaml"].replace(
            "policy: orders", f"policy: orders-{name}"
        )
        was = version(installed)
        installed.sync()
        until(lambda was=was: version(installed) != was, 15)  # type: ignore[misc]
    was = version(installed)
    maps.update(before)
    installed.sync()
    until(lambda: version(installed) != was, 15)
    assert installed.log.count("configuration-problem") == problems


def test_a_wrong_edit_leaves_what_runs_and_rings(cluster: Cluster, installed: Pod) -> None:
    maps = cluster.objects.config_maps["authgate-config"]
    before, running = dict(maps), version(installed)
    edited(cluster, lambda text: text + "  - id: broken\n    match: {path: broken}\n")
    installed.sync()
    until(lambda: stale(installed) == b"1", 15)
    assert version(installed) == running
    assert installed.probe("readinessProbe")
    assert '"routes.yaml:' in installed.log
    # The same pod may even start again: its folder has the last good configuration.
    installed.end()
    installed.start()
    become_ready(installed)
    assert version(installed) == running
    # One that is made now has none, and says what is wrong.
    evicted_to = cluster.pod(cluster.values())
    evicted_to.start()
    assert evicted_to.process is not None
    assert evicted_to.process.wait(60) == 1
    assert '"routes.yaml:' in evicted_to.log
    # And an upgrade ends in its Job, before the schema is looked at.
    (validated,) = cluster.job(cluster.values())
    assert validated.returncode == 1
    assert "routes.yaml:" in validated.stdout + validated.stderr
    maps.update(before)
    installed.sync()
    until(lambda: stale(installed) == b"0", 15)


# --- ends ---


@dataclass
class Service:
    """Sends each new connection to one of its pods, and hears of their ends later than they do."""

    pods: list[Pod] = field(default_factory=list)
    answered: int = 0
    failed: list[str] = field(default_factory=list)
    _next: itertools.count[int] = field(default_factory=itertools.count)
    _stop: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __enter__(self) -> Service:
        self._threads = [threading.Thread(target=self._run) for _ in range(4)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(20)

    def _run(self) -> None:
        while not self._stop.is_set():
            there = list(self.pods)
            pod = there[next(self._next) % len(there)]
            try:
                self._on_one_connection(pod)
            except OSError as error:
                with self._lock:
                    self.failed.append(f"{pod.ip}: {error!r}")

    def _on_one_connection(self, pod: Pod) -> None:
        """As a controller keeps them: until an answer says that it is the last."""
        with socket.create_connection(("127.0.0.1", pod.public), timeout=10) as sock:
            reader = sock.makefile("rb")
            for _ in range(200):
                if self._stop.wait(0.005):
                    return
                sock.sendall(
                    f"GET /.well-known/jwks.json HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()
                )
                answer = read_answer(reader, "GET")
                with self._lock:
                    self.answered += 1
                    if answer.status != 200:
                        self.failed.append(f"{pod.ip}: {answer.status}")
                if answer.get("connection") == "close":
                    return


def test_an_update_of_two_pods_loses_no_call(cluster: Cluster, installed: Pod) -> None:
    """A new pod first, and only when it decides one of the old is told to end: by `preStop`, and then
    SIGTERM, while proxies still send it calls for a while."""
    values = cluster.values()
    second = cluster.pod(values)
    second.start()
    become_ready(second)
    others: list[Pod] = [second]
    service = Service([installed, second])
    try:
        with service:
            until(lambda: service.answered > 100, 10)
            for old in (installed, second):
                new = cluster.pod(values)
                others.append(new)
                new.start()
                become_ready(new)
                service.pods.append(new)
                assert sum(pod.probe("readinessProbe") for pod in service.pods) == 3
                threading.Timer(LAG_S, service.pods.remove, [old]).start()
                waited = old.container["lifecycle"]["preStop"]["sleep"]["seconds"]
                threading.Event().wait(waited)
                assert old.end() < old.spec["terminationGracePeriodSeconds"] - waited
                assert old.process is not None
                assert old.process.returncode == 0
            answered = service.answered
            until(lambda: service.answered > answered + 100, 10)
        assert service.failed == []
    finally:
        for pod in others:
            pod.kill()
        with suppress(AssertionError):
            installed.start()
            become_ready(installed)


def test_what_all_nodes_must_share_is_not_changed_by_a_rolling_update(
    cluster: Cluster, installed: Pod
) -> None:
    """The new pod says so and ends with 2; the old one goes on."""
    pod = cluster.pod(cluster.values(publicUrl="https://other.example.com"))
    pod.start()
    assert pod.process is not None
    assert pod.process.wait(60) == 2
    assert "GATEWAY_PUBLIC_URL" in pod.log
    assert installed.probe("readinessProbe")


def test_one_pod_with_stores_of_its_own_keeps_its_accounts(cluster: Cluster) -> None:
    values: Manifest = yaml.safe_load((EXAMPLES / "single.yaml").read_text("utf-8"))
    values["settings"] = {"GATEWAY_SIGNING_ALG": "EdDSA", "GATEWAY_BCRYPT_ROUNDS": 10}
    manifests = cluster.helm.rendered(values)
    cluster.objects.apply(manifests)
    spec = pods([one(manifests, "Deployment")])[0]
    for volume in spec["volumes"]:
        if volume.pop("persistentVolumeClaim", None):
            volume["emptyDir"] = {}  # a folder that root has made, as a fresh volume is
    pod = Pod(spec, cluster.objects, cluster.folder / "single")
    pod.start()
    try:
        become_ready(pod)
        words = ["gateway", "users", "create", "ada@example.com", "--verified", "--password-stdin"]
        assert pod.execute(words, stdin="correct horse 7 battery\n").returncode == 0
        pod.end()
        pod.start()
        become_ready(pod)
        body = {"email": "ada@example.com", "password": "correct horse 7 battery"}
        assert call(pod, "/auth/login", body=body).status == 200
    finally:
        pod.kill()


@pytest.fixture
def production(cluster: Cluster, postgres_database_url: str) -> Iterator[Pod]:
    """The example of that name with all that it names, in a database of its own: TLS up to the pod,
    an authority of one's own for upstreams, pages, and secrets in variables and files."""
    values = example("production")
    values["settings"] |= {"GATEWAY_SIGNING_ALG": "EdDSA", "GATEWAY_BCRYPT_ROUNDS": 10}
    files = values["config"]["files"]
    authority = f"{cluster.folder}/production/mount-0/"
    files["routes.yaml"] = files["routes.yaml"].replace("/etc/authgate-ca/", authority)
    manifests = cluster.helm.rendered(values)
    cluster.objects.apply(manifests)
    certificate = self_signed(HOST)
    pem, key = certificate.certificate.decode(), certificate.key.decode()
    cluster.objects.config_maps["internal-ca"] = {"ca.crt": pem}
    known, stores = cluster.objects.secrets["authgate"], cluster.objects.secrets
    with schema_of(postgres_database_url) as url, tempfile.TemporaryDirectory() as place:
        valkey = ValkeyServer(Path(place)).start()
        stores["authgate"] = {
            **known,
            "password-pepper": "pepper of twenty bytes",
            "smtp-url": "smtp://127.0.0.1:9",
        }
        stores["authgate-stores"] = {"postgresql": url, "redis": valkey.url}
        stores["authgate-upstreams"] = {"orders-token": "one"}
        stores["billing"] = {"token": "two"}
        stores["gateway-tls"] = {"tls.crt": pem, "tls.key": key}
        spec = pods([one(manifests, "Deployment")])[0]
        pod = Pod(spec, cluster.objects, cluster.folder / "production")
        try:
            yield pod
        finally:
            pod.kill()
            valkey.kill()
            stores["authgate"] = known


def test_all_that_the_example_of_production_names_reaches_the_gateway(
    cluster: Cluster, production: Pod
) -> None:
    # The pod's folders are there by now, and with them the authority that routes.yaml names.
    job = one(cluster.helm.rendered(example("production")), "Job")
    done = run_job(pods([job])[0], cluster.objects, cluster.folder / "production-job")
    assert [each.returncode for each in done] == [0, 0], done
    production.start()
    become_ready(production)
    trusting = ssl.create_default_context(
        cadata=cluster.objects.config_maps["internal-ca"]["ca.crt"]
    )
    with (
        socket.create_connection(("127.0.0.1", production.public), timeout=10) as plain,
        trusting.wrap_socket(plain, server_hostname=HOST) as sock,
    ):
        head = f"GET /auth/ui/sign-in HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n"
        sock.sendall(head.encode())
        answer = read_answer(sock.makefile("rb"), "GET")
    assert answer.status == 200
    assert b"Example Inc." in answer.body
    assert len(production.ask("/readyz").json["workers"]) == 2


def test_a_pod_fits_into_the_memory_that_it_asks_for(installed: Pod) -> None:
    """What the scheduler sets aside is what an idle pod takes, at least; docs/operations/kubernetes.md
    has it."""

    def resident_kb(pid: int) -> int:
        found = re.search(r"^Pss: +(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.M)
        return int(found[1]) if found else 0

    assert installed.process is not None
    pids = [installed.process.pid, *children(installed.process.pid)]
    whole_mb = sum(map(resident_kb, pids)) / 1024
    asked = installed.container["resources"]["requests"]["memory"]
    assert asked.endswith("Mi")
    sys.stderr.write(f"an idle pod with one worker: {whole_mb:.0f} MiB\n")
    assert whole_mb < int(asked[:-2]), f"{whole_mb:.0f} MiB"


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
