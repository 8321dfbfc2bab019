"""A page of docs/applications, run as it is printed, but for its ports.

A page holds blocks with a title: the files (`routes.yaml`, `policies/…`, the program's own) and the
commands (`install`, `start`, …).  Commands are run by bash in a folder of the test's own, where the
commands of this repository and of what the page installs are found first.  What a page installs from
PyPI or npm is kept (tests/kept.py), as long as the page says the same.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest

from tests.contract.running import wait_until_ready
from tests.kept import kept
from tests.ports import free_port
from tests.servers import end_with_parent, wait_until

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "docs" / "applications"
WITHIN_S = 120.0
EMAIL, PASSWORD = "ada@example.com", "correct horse 7 battery"

_BLOCK = re.compile(r'^```(\w+) title="([^"]+)"\n(.*?)^```$', re.M | re.S)
_FILE = re.compile(r"[\w./-]*\.\w+|Caddyfile")
_PORT = re.compile(r"127\.0\.0\.1:(\d{4,5})\b")


@dataclass
class Recipe:
    """One page.  `gateway` is the port of the public listener."""

    name: str
    folder: Path
    blocks: dict[str, str]
    ports: dict[str, str]
    """As printed, as this run has them; the page names each in a `127.0.0.1:PORT`."""
    environment: dict[str, str]
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def gateway(self) -> int:
        return int(self.ports["8080"])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.gateway}"

    def filled(self, text: str) -> str:
        """The text with this run's ports in place of the printed ones."""
        printed = "|".join(self.ports)
        return re.sub(rf"\b({printed})\b", lambda port: self.ports[port[0]], text)

    def write_files(self) -> None:
        for title, text in self.blocks.items():
            if _FILE.fullmatch(title):
                file = self.folder / title
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(self.filled(text), "utf-8")

    def run(self, title: str, *, check: bool = True) -> subprocess.CompletedProcess[str]:
        """A block of commands, to its end."""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", self.filled(self.blocks[title])],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=WITHIN_S,
            check=False,
        )
        assert not check or done.returncode == 0, f"{title}:\n{done.stdout}\n{done.stderr}"
        return done

    def start(self, title: str, *ports: str) -> None:
        """A block that serves until the test ends; returns once its printed ports accept."""
        log = self.folder / f"{title}.log".replace(" ", "-")
        with log.open("wb") as out:
            process = subprocess.Popen(
                ["bash", "-euo", "pipefail", "-c", self.filled(self.blocks[title])],
                cwd=self.folder,
                env=self.environment,
                stdout=out,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                preexec_fn=end_with_parent,
            )
        self.running.append(process)
        for port in ports:
            wait_until(partial(self._accepts, process, port, log), WITHIN_S, f"{title}: {log}")

    def follow(self, *steps: str) -> None:
        """The blocks in this order: `TITLE` runs to its end, `TITLE:PORT` serves from then on.

        A block that serves at several ports has them all, as in `program:8000:8082`; `gateway`
        serves without a port, and is waited for until it is ready.
        """
        for step in steps:
            title, *ports = step.split(":")
            if title == "gateway":
                self.start(title)
                log = self.folder / "gateway.log"
                wait_until_ready(self.running[-1], int(self.ports["9901"]), log)
            elif ports:
                self.start(title, *ports)
            else:
                self.run(title)

    def log(self, title: str) -> str:
        return (self.folder / f"{title}.log".replace(" ", "-")).read_text("utf-8", "replace")

    def end(self) -> None:
        for process in reversed(self.running):
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
        for process in self.running:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def _accepts(self, process: subprocess.Popen[bytes], port: str, log: Path) -> bool:
        if process.poll() is not None:
            raise AssertionError(f"it ended:\n{log.read_text('utf-8', 'replace')[-3000:]}")
        try:
            socket.create_connection(("127.0.0.1", int(self.ports[port])), timeout=1).close()
        except OSError:
            return False
        return True


def blocks_of(page: str) -> dict[str, str]:
    """The blocks of a page that have a title."""
    return {title: text for _, title, text in _BLOCK.findall(page)}


@contextmanager
def followed(name: str, folder: Path, *, programs: Sequence[str] = ()) -> Iterator[Recipe]:
    """The page `name` with its files written, its program installed, and the gateway's account made.

    `programs` are those that the page takes from Debian, as `command:package`.
    """
    for program in programs:
        command, _, package = program.partition(":")
        if shutil.which(command) is None:
            pytest.skip(f"no {command} here: apt-get install {package or command}")
    page = (PAGES / f"{name}.md").read_text("utf-8")
    blocks = blocks_of(page)
    folder.mkdir(parents=True, exist_ok=True)
    installed = install(name)
    path = [str(Path(sys.executable).parent)]
    if installed is not None:
        path = [str(installed / "bin"), str(installed / "node_modules" / ".bin"), *path]
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith("GATEWAY_")
    }
    environment |= {
        "PATH": os.pathsep.join([*path, "/usr/sbin", os.environ["PATH"]]),
        "HOME": str(folder),
        "AUTHGATE": str(ROOT),
    }
    ports = {port: str(free_port()) for port in {"8080", "9901", *_PORT.findall(page)}}
    recipe = Recipe(name, folder, blocks, ports, environment)
    environment |= {
        "GATEWAY_LISTEN": f"127.0.0.1:{ports['8080']}",
        "GATEWAY_ADMIN_LISTEN": f"127.0.0.1:{ports['9901']}",
    }
    recipe.write_files()
    if installed is not None and (packages := installed / "node_modules").is_dir():
        # Where a script of the page looks for what it imports.
        (folder / "node_modules").symlink_to(packages)
    try:
        yield recipe
    finally:
        recipe.end()


def recipe_fixture(name: str, *steps: str, programs: Sequence[str] = ()) -> object:
    """The fixture of a page: followed once for all tests of its module."""

    @pytest.fixture(scope="module")
    def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recipe]:
        with followed(name, tmp_path_factory.mktemp(name), programs=programs) as page:
            page.follow(*steps)
            yield page

    return running


def install(name: str) -> Path | None:
    """Where the page's packages stand, installed anew when it says something else; None of a page
    that installs none."""
    commands = blocks_of((PAGES / f"{name}.md").read_text("utf-8")).get("install")
    if commands is None:
        return None
    folder = kept("applications") / name
    folder.parent.mkdir(parents=True, exist_ok=True)
    stamp, wanted = folder / ".installed", hashlib.sha256(commands.encode()).hexdigest()
    with (folder.parent / f".{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if stamp.exists() and stamp.read_text() == wanted:
            return folder
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        uv = [str(ROOT / "bootstrap.sh"), "uv"]
        environment = {**os.environ, "VIRTUAL_ENV": str(folder)}
        if "pip install" in commands:
            subprocess.run([*uv, "venv", "--quiet", str(folder)], check=True)
            # The page says pip; uv reads the same words and takes a tenth of the time.  Like pip it
            # compiles what it installs: a program that does so at each start takes a minute for it.
            pip = folder / "bin" / "pip"
            python = folder / "bin" / "python"
            pip.write_text(
                "#!/bin/sh\nshift\n"
                f'exec "{uv[0]}" uv pip install --quiet --compile-bytecode --python "{python}" "$@"\n'
            )
            pip.chmod(0o755)
        environment["PATH"] = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", commands],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        stamp.write_text(wanted)
    return folder
