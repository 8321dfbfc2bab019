"""`gateway dev` with the shipped configuration, as a newcomer runs it; its ports are free ones."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.ports import free_port

REPOSITORY = Path(__file__).parents[2]
GATEWAY = Path(sys.executable).with_name("gateway")
READY_WITHIN_S = 120


@dataclass
class Ports:
    public: int
    admin: int
    demo: int

    @classmethod
    def free(cls) -> Ports:
        return cls(free_port(), free_port(), free_port())


@dataclass
class Dev:
    """A running `gateway dev`."""

    process: subprocess.Popen[str]
    ports: Ports
    folder: Path
    printed: str

    def get(self, path: str, *, admin: bool = False) -> str:
        port = self.ports.admin if admin else self.ports.public
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return str(answer.read().decode())


def lay_out(folder: Path, ports: Ports) -> None:
    """The shipped configuration, with its demo backend on a port that is free here."""
    shutil.copytree(REPOSITORY / "policies", folder / "policies")
    routes = (REPOSITORY / "routes.yaml").read_text("utf-8")
    assert "127.0.0.1:9000" in routes
    (folder / "routes.yaml").write_text(
        routes.replace("127.0.0.1:9000", f"127.0.0.1:{ports.demo}"), "utf-8"
    )


def environment_of(ports: Ports, **settings: str) -> dict[str, str]:
    """Also of the commands that an operator calls in the folder."""
    return {
        **{k: v for k, v in os.environ.items() if not k.startswith("GATEWAY_")},
        "GATEWAY_LISTEN": f"127.0.0.1:{ports.public}",
        "GATEWAY_ADMIN_LISTEN": f"127.0.0.1:{ports.admin}",
        "GATEWAY_BCRYPT_ROUNDS": "10",
        "PYTHONPATH": str(REPOSITORY),
        **settings,
    }


def command(folder: Path, ports: Ports, **settings: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [str(GATEWAY), "dev", "--demo-listen", f"127.0.0.1:{ports.demo}"],
        cwd=folder,
        env=environment_of(ports, **settings),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


@contextmanager
def running(folder: Path, ports: Ports, **settings: str) -> Iterator[Dev]:
    process = command(folder, ports, **settings)
    assert process.stdout is not None
    watchdog = threading.Timer(READY_WITHIN_S, process.kill)
    watchdog.start()
    printed = ""
    for line in process.stdout:
        printed += line
        if line.startswith("Stop "):
            break
    watchdog.cancel()
    try:
        assert "Stop " in printed, printed
        yield Dev(process, ports, folder, printed)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
