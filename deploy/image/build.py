"""Builds the image with buildah; `make image` runs it.  Needs nothing but Python's own library.

    python3 deploy/image/build.py [--tag NAME:TAG] [--base IMAGE] [--build-base IMAGE]

Prints the id of the image, which is the hash of its configuration and with it of all that it
consists of: who builds one commit on one base twice gets one id.  BUILDAH names another command
(`BUILDAH="buildah --root /srv/images"`); SOURCE_DATE_EPOCH and REVISION another time and another
commit than git does.
"""

import argparse
import hashlib
import json
import os
import resource
import shlex
import subprocess
import sys
import tempfile
import tomllib
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILDAH = shlex.split(os.environ.get("BUILDAH", "buildah"))
CERTIFICATES = "/etc/ssl/certs"
"""Of this machine: the package index is asked with them, and none of them gets into the image."""


def main() -> int:
    wanted = _arguments()
    built_at = int(os.environ.get("SOURCE_DATE_EPOCH") or _git("log", "-1", "--format=%ct") or 0)
    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    tag = wanted.tag or f"localhost/authgate:{version}"
    given = {
        "SOURCE_DATE_EPOCH": str(built_at),
        "VERSION": version,
        "REVISION": _revision(),
        "CREATED": datetime.fromtimestamp(built_at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    if given["REVISION"] == "unknown":
        sys.stderr.write("git tells no commit: name REVISION, and SOURCE_DATE_EPOCH\n")
    if wanted.base:
        given["BASE"] = wanted.base
    if wanted.build_base:
        given["BUILD_BASE"] = wanted.build_base
    with tempfile.TemporaryDirectory(prefix="authgate-image-") as folder:
        _build(given, built_at, Path(folder))
        _forget_the_builder(Path(folder))
        image = _buildah("pull", "--quiet", f"dir:{folder}")
    _buildah("tag", image, tag)
    sys.stdout.write(f"{tag}\nsha256:{image}\n")
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--tag", default="", help="default: localhost/authgate:VERSION")
    parser.add_argument("--base", default="", help="a slim Python image; default: that of Docker")
    parser.add_argument("--build-base", default="", help="the same Python with pip and venv")
    return parser.parse_args()


def _build(given: dict[str, str], built_at: int, to: Path) -> None:
    words = [f"--build-arg={name}={value}" for name, value in given.items()]
    if Path(CERTIFICATES).is_dir():
        words.append(f"--volume={CERTIFICATES}:{CERTIFICATES}:ro")
    for name, limit in (("nofile", resource.RLIMIT_NOFILE), ("nproc", resource.RLIMIT_NPROC)):
        # buildah would raise them, which not everybody may.
        hard = resource.getrlimit(limit)[1]
        if hard != resource.RLIM_INFINITY:
            words.append(f"--ulimit={name}={hard}:{hard}")
    subprocess.run(
        [
            # Without namespaces and a network of its own: not everybody has them to give.
            *(*BUILDAH, "build", "--isolation=chroot", "--no-cache", "--pull=missing"),
            # Of the two formats the one that has a HEALTHCHECK.
            *("--format=docker", "--identity-label=false", f"--timestamp={built_at}"),
            *("--file=deploy/image/Containerfile", f"--tag=dir:{to}", *words, "."),
        ],
        cwd=ROOT,
        check=True,
        stdout=sys.stderr,
    )


def _forget_the_builder(folder: Path) -> None:
    """Takes the name of the container in which it was built out of the configuration: with that,
    no two builds are the same.  `folder` is as buildah writes it to `dir:`."""
    note = folder / "manifest.json"
    manifest = json.loads(note.read_bytes())
    before = folder / manifest["config"]["digest"].removeprefix("sha256:")
    configuration = json.loads(before.read_bytes())
    before.unlink()
    configuration.pop("container", None)
    for part in ("config", "container_config"):
        configuration.get(part, {}).pop("Hostname", None)
    text = json.dumps(configuration, separators=(",", ":")).encode()
    digest = hashlib.sha256(text).hexdigest()
    (folder / digest).write_bytes(text)
    manifest["config"] |= {"digest": f"sha256:{digest}", "size": len(text)}
    note.write_text(json.dumps(manifest))


def _buildah(*words: str) -> str:
    done = subprocess.run([*BUILDAH, *words], check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout.strip()


def _revision() -> str:
    """The commit; with what is not committed it is not that commit."""
    if named := os.environ.get("REVISION"):
        return named
    commit = _git("rev-parse", "HEAD")
    return f"{commit}-dirty" if commit and _git("status", "--porcelain") else commit or "unknown"


def _git(*words: str) -> str:
    """What git says; empty where there is no git, or no repository."""
    try:
        done = subprocess.run(["git", "-C", ROOT, *words], capture_output=True, text=True)
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


if __name__ == "__main__":
    sys.exit(main())
