"""What a kubelet does with the pods of the chart, on this machine: their files, variables, probes, ends.

The folders of a pod lie below one of the test's, and its ports are free ones; everything else is as
the manifests say it: volumes are written as the kubelet writes them (a folder that is swapped by its
link), variables are filled, containers run as the uid of the pod in a folder that is not its own.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from tests.contract.answers import Answer, read_answer
from tests.deploy.helm import Manifest, containers
from tests.forked import GATEWAY
from tests.ports import free_port

_numbers = count(1)


def swap(mount: Path, files: Mapping[str, str]) -> None:
    """Writes a volume of a ConfigMap or a Secret, as the kubelet's AtomicWriter does: the files into
    a new folder, `..data` to it in one rename, a link for each first part of a path, and the folder
    before is taken away."""
    mount.mkdir(exist_ok=True)
    before = (mount / "..data").resolve() if (mount / "..data").is_symlink() else None
    fresh = mount / f"..2026_11_28_12_00_00.{next(_numbers):010d}"
    fresh.mkdir()
    for path, text in files.items():
        (fresh / path).parent.mkdir(parents=True, exist_ok=True)
        (fresh / path).write_text(text, "utf-8")
        (fresh / path).chmod(0o444)
    (mount / "..data_tmp").symlink_to(fresh.name)
    os.replace(mount / "..data_tmp", mount / "..data")
    first = {path.partition("/")[0] for path in files}
    for name in first:
        if not (mount / name).is_symlink():
            (mount / name).symlink_to(f"..data/{name}")
    for link in mount.iterdir():
        if link.is_symlink() and not link.name.startswith("..") and link.name not in first:
            link.unlink()
    if before is not None:
        shutil.rmtree(before)


@dataclass
class Objects:
    """What is in the namespace beside the pods: text of each key."""

    config_maps: dict[str, dict[str, str]] = field(default_factory=dict)
    secrets: dict[str, dict[str, str]] = field(default_factory=dict)

    def apply(self, manifests: list[Manifest]) -> None:
        for manifest in manifests:
            if manifest["kind"] == "ConfigMap":
                self.config_maps[manifest["metadata"]["name"]] = manifest["data"]

    def files(self, volume: Manifest) -> dict[str, str]:
        """Path -> text of what is mounted; empty for a folder of the pod's own."""
        if "projected" in volume:
            sources = [source["configMap"] for source in volume["projected"]["sources"]]
            return {
                item["path"]: self.config_maps[source["name"]][item["key"]]
                for source in sources
                for item in source["items"]
            }
        if "configMap" in volume:
            return self.config_maps[volume["configMap"]["name"]]
        if "secret" in volume:
            return self.secrets[volume["secret"]["secretName"]]
        return {}


@dataclass
class Pod:
    """One pod of a Deployment or a Job; its folders stay when a container of it starts again."""

    spec: Manifest
    objects: Objects
    folder: Path
    ip: str = "10.244.1.7"
    public: int = field(default_factory=free_port)
    admin: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        self.folder.mkdir()
        self.folder.chmod(0o755)
        for volume in self.spec["volumes"]:
            place = self.folder / volume["name"]
            if "emptyDir" in volume:
                # Root's, and the group's of the pod: its processes may write, and own nothing.
                place.mkdir()
                if os.geteuid() == 0:
                    os.chown(place, 0, self._ids["fsGroup"])
                place.chmod(0o2777)
        self.sync()

    def sync(self) -> None:
        """Brings mounted files up to date, as the kubelet does once a minute."""
        for volume in self.spec["volumes"]:
            if files := self.objects.files(volume):
                swap(self.folder / volume["name"], files)

    def run(self, container: Manifest) -> subprocess.CompletedProcess[str]:
        """A container that ends by itself."""
        return self.execute(container["command"], container)

    def execute(
        self, words: list[str], container: Manifest | None = None, *, stdin: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """`kubectl exec`."""
        return subprocess.run(
            [str(GATEWAY), *words[1:]],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            **self._around(container or self.container),
        )

    def start(self) -> None:
        """The container of the gateway; again, where it has ended."""
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [str(GATEWAY), *self.container["command"][1:]],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                **self._around(self.container),
            )

    def end(self) -> float:
        """As a pod is ended, once `preStop` is over: seconds until it was gone.  Past the time that it
        is given a kubelet would kill it; here a test fails."""
        assert self.process is not None
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        waited = self.container.get("lifecycle", {}).get("preStop", {}).get("sleep", {})
        self.process.wait(self.spec["terminationGracePeriodSeconds"] - waited.get("seconds", 0))
        return time.monotonic() - began

    def kill(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)

    def probe(self, name: str) -> bool:
        """Whether a probe of the container succeeds now; the kubelet asks by the pod's address."""
        probe = self.container[name]
        try:
            status = self.ask(probe["httpGet"]["path"], timeout_s=probe["timeoutSeconds"]).status
        except OSError:
            return False
        return 200 <= status < 400

    def ask(self, path: str, *, host: str = "", timeout_s: float = 5) -> Answer:
        """Of the admin listener."""
        head = (
            f"GET {path} HTTP/1.1\r\nHost: {host or self.ip + ':9901'}\r\nConnection: close\r\n\r\n"
        )
        with socket.create_connection(("127.0.0.1", self.admin), timeout=timeout_s) as sock:
            sock.sendall(head.encode())
            return read_answer(sock.makefile("rb"), "GET")

    @property
    def container(self) -> Manifest:
        one: Manifest = self.spec["containers"][0]
        return one

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text("utf-8")

    @property
    def _ids(self) -> dict[str, int]:
        return dict(self.spec["securityContext"])

    def _around(self, container: Manifest) -> dict[str, Any]:
        given: dict[str, Any] = {
            "cwd": self._placed(container["workingDir"], container),
            "env": {"PATH": os.defpath, **self._environment(container)},
        }
        if os.geteuid() == 0:
            ids = self._ids
            given |= {
                "user": ids["runAsUser"],
                "group": ids["runAsGroup"],
                "extra_groups": [ids["fsGroup"]],
            }
        return given

    def _environment(self, container: Manifest) -> dict[str, str]:
        """In their order: `$(NAME)` is one that stood before, `$$(` is no name."""
        filled: dict[str, str] = {}
        for each in container["env"]:
            if "value" in each:
                text = re.sub(
                    r"(\$?)\$\(([A-Z_]+)\)",
                    lambda found: found[0][1:] if found[1] else filled[found[2]],
                    each["value"],
                )
                text = text.replace("0.0.0.0:8080", f"0.0.0.0:{self.public}")
                text = text.replace("0.0.0.0:9901", f"0.0.0.0:{self.admin}")
                filled[each["name"]] = self._placed(text, container)
            elif "fieldRef" in each["valueFrom"]:
                filled[each["name"]] = self.ip
            else:
                of = each["valueFrom"]["secretKeyRef"]
                filled[each["name"]] = self.objects.secrets[of["name"]][of["key"]]
        return filled

    def _placed(self, text: str, container: Manifest) -> str:
        """A path in the container as it is on this machine."""
        mounts = sorted(container["volumeMounts"], key=lambda each: -len(each["mountPath"]))
        for mount in mounts:
            if text == mount["mountPath"] or text.startswith(mount["mountPath"] + "/"):
                return str(self.folder / mount["name"]) + text.removeprefix(mount["mountPath"])
        return text


def run_job(
    spec: Manifest, objects: Objects, folder: Path
) -> list[subprocess.CompletedProcess[str]]:
    """Its containers one after the other, until one fails."""
    pod = Pod(spec, objects, folder)
    done = []
    for container in containers(spec):
        done.append(pod.run(container))
        if done[-1].returncode:
            break
    return done
