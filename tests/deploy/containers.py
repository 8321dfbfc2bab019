"""The image of deploy/image, built and run where no registry of images can be reached.

Its base is made of Debian's packages.  Images and containers are kept in a folder of their own,
so that nothing of the machine's buildah and podman is touched.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.kept import kept

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
BASE = "localhost/python:slim"
BASE_PACKAGES = ("python3", "python3-venv", "ca-certificates")
"""What a slim image of Python has, and what its build stage needs: venv with pip."""
NEEDED = {name: name for name in ("buildah", "podman", "runc", "mmdebstrap", "valkey-server")}
NEEDED |= {"nft": "nftables", "prometheus": "prometheus"}
HELPERS = {"netavark": "netavark", "aardvark-dns": "aardvark-dns"}
"""Which podman starts; they lie in no PATH."""
MISSING = [package for program, package in NEEDED.items() if not shutil.which(program)]
MISSING += [
    package
    for program, package in HELPERS.items()
    if not shutil.which(program, path="/usr/lib/podman:/usr/libexec/podman")
]
CONTEXT = (
    "gateway",
    "deploy/image",
    "deploy/compiled",
    "pyproject.toml",
    "uv.lock",
    "README.md",
    "LICENSE",
)
"""As .dockerignore lets through."""
SOURCES = Path("/etc/apt/sources.list.d/debian.sources")


@dataclass
class Engine:
    """buildah and podman on the images of one folder."""

    folder: Path
    driver: str

    def __post_init__(self) -> None:
        """podman and buildah would raise limits, which not everybody may; and what follows needs
        neither systemd nor the newer kind of cgroups."""
        ulimits = [
            f'"{name}={hard}:{hard}"'
            for name, limit in (
                ("nofile", resource.RLIMIT_NOFILE),
                ("nproc", resource.RLIMIT_NPROC),
            )
            if (hard := resource.getrlimit(limit)[1]) != resource.RLIM_INFINITY
        ]
        (self.folder / "aside").mkdir(exist_ok=True)
        (self.folder / "containers.conf").write_text(
            f"[containers]\ndefault_ulimits = [{', '.join(ulimits)}]\n"
            f'[network]\nnetwork_config_dir = "{self.folder}/networks"\n'
            '[engine]\nruntime = "runc"\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n'
        )

    @property
    def _place(self) -> list[str]:
        return [
            *("--root", f"{self.folder}/images", "--runroot", f"{self.folder}/run"),
            *("--storage-driver", self.driver),
        ]

    @property
    def buildah_command(self) -> list[str]:
        return ["buildah", *self._place]

    @property
    def podman_command(self) -> list[str]:
        return ["podman", *self._place, "--tmpdir", f"{self.folder}/tmp"]

    @property
    def environment(self) -> dict[str, str]:
        return os.environ | {
            "BUILDAH": " ".join(self.buildah_command),
            "CONTAINERS_CONF_OVERRIDE": f"{self.folder}/containers.conf",
            "PODMAN_IGNORE_CGROUPSV1_WARNING": "1",
            "TMPDIR": f"{self.folder}/aside",
        }

    def buildah(self, *words: str) -> str:
        return self._run(self.buildah_command, words)

    def podman(self, *words: str) -> str:
        return self._run(self.podman_command, words)

    def _run(self, command: list[str], words: tuple[str, ...]) -> str:
        done = subprocess.run(
            [*command, *words], env=self.environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{' '.join(words)}: {done.stderr[-3000:]}"
        return done.stdout.strip()

    def take_base(self) -> None:
        container = self.buildah("from", "scratch")
        self.buildah("add", "--quiet", container, str(base_archive()), "/")
        self.buildah("commit", "--quiet", "--timestamp=0", container, BASE)
        self.buildah("rm", container)

    def build(self, tree: Path, tag: str, **environment: str) -> str:
        """The id of the image of this tree, as `make image` builds it."""
        done = subprocess.run(
            [sys.executable, "deploy/image/build.py", f"--base={BASE}", f"--tag={tag}"],
            cwd=tree,
            env=self.environment | environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-5000:]
        assert done.stdout.splitlines()[0] == tag
        return done.stdout.splitlines()[1]

    def configuration(self, image: str) -> dict[str, Any]:
        """What the image says of itself, as Docker's format has it."""
        return dict(json.loads(self.buildah("inspect", "--type=image", image))["Docker"])

    @contextmanager
    def mounted(self, image: str) -> Iterator[Path]:
        """The files of the image."""
        container = self.buildah("from", "--pull=never", image)
        try:
            yield Path(self.buildah("mount", container))
        finally:
            self.buildah("rm", container)


@contextmanager
def engine() -> Iterator[Engine]:
    """In memory where that can be had: images are tens of thousands of files, written once and
    thrown away."""
    with tempfile.TemporaryDirectory(prefix="authgate-images-", ignore_cleanup_errors=True) as at:
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "mode=0700,size=6g", "images", at],
            capture_output=True,
            check=False,
        )
        chosen = Engine(Path(at), "overlay")
        try:
            chosen.buildah("rm", chosen.buildah("from", "scratch"))
        except AssertionError:
            chosen = Engine(Path(at), "vfs")  # what lies on an overlay itself takes no second one
        try:
            yield chosen
        finally:
            chosen.podman("rm", "--all", "--force", "--time=5")
            for mounted in (f"{at}/images/overlay", at):
                subprocess.run(["umount", "--lazy", mounted], capture_output=True, check=False)


def base_archive() -> Path:
    """The root of a small Debian with Python, made once a machine."""
    suite = platform.freedesktop_os_release()["VERSION_CODENAME"]
    words = [
        *("mmdebstrap", "--quiet", "--mode=root", "--variant=minbase"),
        f"--include={','.join(BASE_PACKAGES)}",
        *(f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("doc", "man", "locale")),
        suite,
    ]
    key = hashlib.sha256(" ".join(words).encode()).hexdigest()[:12]
    archive = kept("image") / f"{suite}-{key}.tar"
    if not archive.exists():
        archive.parent.mkdir(parents=True, exist_ok=True)
        aside = archive.with_name(f"{archive.stem}-{os.getpid()}.new.tar")
        sources = [str(SOURCES)] if SOURCES.exists() else []
        done = subprocess.run(
            [*words, str(aside), *sources], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr[-3000:]
        aside.rename(archive)
    return archive


def copy_of_the_tree(to: Path) -> Path:
    """What a build reads, as another checkout of it would have it."""
    for name in CONTEXT:
        source, target = ROOT / name, to / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, target)
    shutil.copy2(ROOT / ".dockerignore", to)
    return to
