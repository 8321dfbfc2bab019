"""One run's folder: keys, filled-in configurations, logs, the backend and the peers."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.credentials import AUDIENCE, ISSUER, Credentials, make_credentials
from bench.processes import Started, await_port, listened_on

HERE = Path(__file__).parent
PROXY_CPU, LOAD_CPU = 0, 1
BASE_PORT = int(os.environ.get("BENCH_PORT", "19000"))
"""The first of some 200 ports.  Two runs at once on one machine need ranges of their own: a gateway
listens with SO_REUSEPORT, and two would share the calls of one port."""


@dataclass
class Rig:
    folder: Path
    credentials: Credentials
    started: list[Started] = field(default_factory=list)

    @classmethod
    def build(cls, folder: Path, users: int) -> Rig:
        for name in ("cfg", "log", "run"):
            shutil.rmtree(folder / name, ignore_errors=True)
            (folder / name).mkdir(parents=True)
        # What nginx writes while it starts as root, its workers read as another user.
        folder.chmod(0o755)
        return cls(folder, make_credentials(folder / "keys", users))

    def fill(self, template: str, **words: object) -> Path:
        """A configuration from `peers/`, with @NAME@ replaced."""
        text = (HERE / "peers" / template).read_text()
        everywhere: dict[str, object] = {
            "RIG": self.folder,
            "BACKEND": BASE_PORT,
            "ISSUER": ISSUER,
            "AUDIENCE": AUDIENCE,
        }
        for name, value in (everywhere | words).items():
            text = text.replace(f"@{name}@", str(value))
        filled = self.folder / "cfg" / template
        filled.parent.mkdir(parents=True, exist_ok=True)
        filled.write_text(text)
        return filled

    def start(
        self,
        name: str,
        command: Sequence[str],
        port: int,
        *,
        cpu: int = PROXY_CPU,
        env: Mapping[str, str] | None = None,
    ) -> Started:
        log = self.folder / "log" / f"{name}.log"
        if listened_on(port):
            # A gateway would share it (SO_REUSEPORT), and the figures be those of another one.
            raise RuntimeError(f"something listens on {port} already: set BENCH_PORT")
        process = Started(command, cpu=cpu, log=log, cwd=self.folder, env=env)
        self.started.append(process)
        await_port(port, process)
        return process

    def start_backend(self) -> None:
        config = self.fill("backend.conf")
        command = [found("nginx"), "-p", str(self.folder), "-c", str(config)]
        self.start("backend", command, BASE_PORT, cpu=LOAD_CPU)

    def stop(self) -> None:
        for process in reversed(self.started):
            process.stop()


def found(program: str) -> str:
    """Its path.  Debian keeps servers in /usr/sbin, which is not on everybody's PATH."""
    path = os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin"
    return shutil.which(program, path=path) or ""
