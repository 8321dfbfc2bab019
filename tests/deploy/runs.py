"""How a container of the image is run, by `podman` or without it.

Where podman cannot run (it asks for cgroups that can be written), the root file system of the image
is mounted and the program runs in it as in a container: process 1 of namespaces of its own, by
`unshare` and `chroot`, as the image's user, without capabilities, with nothing to write to but its
volumes.  What the tests hold of the gateway holds of both; compose is podman's alone.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Protocol

from tests.deploy.containers import BASE, Engine
from tests.servers import end_with_parent, wait_until

DATA = "/var/lib/authgate"
CONFIGURATION = "/etc/authgate"


@dataclass(frozen=True)
class Started:
    """What a container is started with, beside what its image says."""

    image: str
    environment: Mapping[str, str] = field(default_factory=dict)
    mounts: Mapping[str, Path] = field(default_factory=dict)
    """Folders of the machine, by where they stand in the container; CONFIGURATION read-only."""
    user: str = ""
    """In the place of the image's."""
    network: bool = True
    """That of the machine; else none."""


class Runs(Protocol):
    def start(self, name: str, what: Started, log: IO[bytes]) -> subprocess.Popen[bytes]:
        """Its process, which ends when the container does, with its exit code."""

    def once(self, what: Started) -> subprocess.CompletedProcess[str]:
        """A container that ends by itself, and is gone then."""

    def execute(self, name: str, words: Sequence[str]) -> subprocess.CompletedProcess[str]:
        """A command in a container that runs."""

    def send(self, name: str, number: signal.Signals) -> None:
        """A signal to its process 1."""

    def remove(self, name: str) -> None:
        """With its volumes; where there is none, nothing."""


def runs_of(machine: Engine) -> Runs:
    """By podman where it runs here."""
    tried = subprocess.run(
        [*machine.podman_command, "run", "--rm", "--network=none", "--read-only", BASE, "true"],
        env=machine.environment,
        capture_output=True,
        check=False,
    )
    return PodmanRuns(machine) if tried.returncode == 0 else ChrootRuns(machine)


@dataclass
class PodmanRuns:
    """As docs/operations/containers.md runs it."""

    machine: Engine

    def start(self, name: str, what: Started, log: IO[bytes]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [*self._run, f"--name={name}", *_options(what)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=self.machine.environment,
        )

    def once(self, what: Started) -> subprocess.CompletedProcess[str]:
        return _done([*self._run, "--rm", *_options(what)], self.machine.environment)

    def execute(self, name: str, words: Sequence[str]) -> subprocess.CompletedProcess[str]:
        return _done([*self.machine.podman_command, "exec", name, *words], self.machine.environment)

    def send(self, name: str, number: signal.Signals) -> None:
        self.machine.podman("kill", f"--signal={number.name}", name)

    def remove(self, name: str) -> None:
        self.machine.podman("rm", "--force", "--ignore", "--time=5", "--volumes", name)

    @property
    def _run(self) -> list[str]:
        return [
            *(*self.machine.podman_command, "run", "--read-only", "--read-only-tmpfs=false"),
            *("--cap-drop=all", "--security-opt=no-new-privileges"),
        ]


def _options(what: Started) -> list[str]:
    volumes = (
        f"--volume={source}:{target}" + (":ro" if target == CONFIGURATION else "")
        for target, source in what.mounts.items()
    )
    return [
        f"--network={'host' if what.network else 'none'}",
        *volumes,
        *(f"--env={name}={value}" for name, value in what.environment.items()),
        *([f"--user={what.user}"] if what.user else []),
        what.image,
    ]


IN_PLACE = """\
set -eu
mount --bind "$ROOT" "$PLACE"
mount -o remount,bind,ro "$PLACE"
mount -t proc -o nosuid,nodev,noexec proc "$PLACE/proc"
mount -t tmpfs -o nosuid,noexec,mode=0755 dev "$PLACE/dev"
for name in null zero full random urandom; do
    : >"$PLACE/dev/$name"
    mount --bind "/dev/$name" "$PLACE/dev/$name"
done
mount -o remount,bind,ro "$PLACE/dev"
"""
"""Then come the volumes, and `exec chroot`."""


@dataclass(frozen=True)
class _Command:
    words: list[str]
    environment: dict[str, str]
    user: str
    directory: str


@dataclass
class ChrootRuns:
    """By `unshare` and `chroot` on the mounted image."""

    machine: Engine
    _running: dict[str, tuple[subprocess.Popen[bytes], _Command]] = field(default_factory=dict)
    _roots: dict[str, Path] = field(default_factory=dict)
    _count: int = 0

    def start(self, name: str, what: Started, log: IO[bytes]) -> subprocess.Popen[bytes]:
        command = self._command(name, what)
        process = subprocess.Popen(
            command.words,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=command.environment,
            preexec_fn=end_with_parent,
        )
        self._running[name] = process, command
        return process

    def once(self, what: Started) -> subprocess.CompletedProcess[str]:
        self._count += 1
        name = f"once-{self._count}"
        command = self._command(name, what)
        try:
            return _done(command.words, command.environment)
        finally:
            self.remove(name)

    def execute(self, name: str, words: Sequence[str]) -> subprocess.CompletedProcess[str]:
        process, command = self._running[name]
        entered = [
            "nsenter",
            f"--target={_first(process)}",
            *("--pid", "--mount", "--ipc", "--uts"),
        ]
        inside = ["--root", *_without_power(command.user, command.directory)]
        return _done([*entered, *inside, *words], command.environment)

    def send(self, name: str, number: signal.Signals) -> None:
        process, _ = self._running[name]
        os.kill(_first(process), number)

    def remove(self, name: str) -> None:
        process, _ = self._running.pop(name, (None, None))
        if process is not None and process.poll() is None:
            with suppress(ProcessLookupError):
                # The others of its namespace end with it.
                os.kill(_first(process), signal.SIGKILL)
            process.wait(20)
        shutil.rmtree(self._place(name), ignore_errors=True)

    def _command(self, name: str, what: Started) -> _Command:
        told = self.machine.configuration(what.image)["config"]
        user, directory = what.user or told["User"], told["WorkingDir"]
        given = dict(setting.split("=", 1) for setting in told["Env"])
        place = self._place(name)
        (place / "root").mkdir(parents=True)
        root = self._root(what.image)
        lines = [
            f"ROOT={shlex.quote(str(root))}",
            f"PLACE={shlex.quote(f'{place}/root')}",
            IN_PLACE,
        ]
        for target, source in {**self._volumes(told, root, place), **what.mounts}.items():
            at = f'"$PLACE"{shlex.quote(target)}'
            lines.append(f"mount --bind {shlex.quote(str(source))} {at}")
            if target == CONFIGURATION:
                lines.append(f"mount -o remount,bind,ro {at}")
        inside = [*_without_power(user, directory), *told["Entrypoint"], *told["Cmd"]]
        lines.append(f'exec /usr/sbin/chroot "$PLACE" {shlex.join(inside)}')
        spaces = ["--fork", "--kill-child", "--pid", "--mount", "--ipc", "--uts"]
        spaces += [] if what.network else ["--net"]
        words = ["unshare", *spaces, "sh", "-c", "\n".join(lines)]
        return _Command(words, {**given, **what.environment}, user, directory)

    def _volumes(self, told: Mapping[str, object], root: Path, place: Path) -> dict[str, Path]:
        """Folders of its own, whose owner and mode are those of the image's."""
        volumes = {}
        listed = told.get("Volumes")
        for number, target in enumerate(listed if isinstance(listed, dict) else ()):
            folder = place / f"volume-{number}"
            folder.mkdir()
            of_image = (root / str(target).lstrip("/")).stat()
            os.chown(folder, of_image.st_uid, of_image.st_gid)
            folder.chmod(of_image.st_mode & 0o7777)
            volumes[str(target)] = folder
        return volumes

    def _root(self, image: str) -> Path:
        """The files of the image, mounted once."""
        if image not in self._roots:
            container = self.machine.buildah("from", "--pull=never", image)
            self._roots[image] = Path(self.machine.buildah("mount", container))
        return self._roots[image]

    def _place(self, name: str) -> Path:
        return self.machine.folder / "chroots" / name


def _first(process: subprocess.Popen[bytes]) -> int:
    """Its process 1, by the number that it has on the machine."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    wait_until(lambda: bool(children.read_text().split()), 20, "process 1")
    return int(children.read_text().split()[0])


def _without_power(user: str, directory: str) -> list[str]:
    """What stands before a command: from then on it is that user, and may nothing."""
    uid, _, gid = user.partition(":")
    return [
        *("/usr/bin/env", f"--chdir={directory}"),
        *("/usr/bin/setpriv", f"--reuid={uid}", f"--regid={gid or uid}", "--clear-groups"),
        *("--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"),
    ]


def _done(words: list[str], environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, env=dict(environment), capture_output=True, text=True, check=False)
