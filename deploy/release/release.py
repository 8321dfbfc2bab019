"""Makes a release of this commit; `make release VERSION=0.2.0` runs it.

    python3 deploy/release/release.py VERSION [--build | --tag] [--without image,chart,wheel]

Without an option it checks whether this commit can be released, and shows what it would do.
`--build` makes everything in `dist/authgate-VERSION/`; `--tag` does too, and then the annotated
tag `vVERSION`.  Nothing leaves this machine: what is to be pushed is printed.  Needs git, and
nothing but Python's own library.

The wheel and the source distribution are built twice, in two folders and under two umasks, and
have to be the same byte by byte.
"""

import argparse
import gzip
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import uuid
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
VERSION = re.compile(r"[0-9]+\.[0-9]+\.[0-9]+(?:(?:a|b|rc)[0-9]+)?")
PREVIOUS = Path("deploy/release/previous")
CHART = Path("deploy/chart/authgate/Chart.yaml")
MADE_ELSEWHERE = ("image", "chart", "wheel")
"""Targets of the Makefile that make a part of a release."""
UMASKS = (0o022, 0o077)


class Refused(Exception):
    """This commit cannot be released; every reason, a line each."""


def main() -> int:
    wanted = _arguments()
    version, tag = wanted.version, f"v{wanted.version}"
    problems = [*_version_problems(version), *_git_problems(tag), *_note_problems(version)]
    if problems:
        for problem in problems:
            _say(f"not ready: {problem}")
        return 1
    steps = [name for name in MADE_ELSEWHERE if name in _targets() and name not in wanted.without]
    folder = ROOT / "dist" / f"authgate-{version}"
    if not (wanted.build or wanted.tag):
        _show(version, steps, folder)
        return 0
    try:
        _build(version, steps, folder)
        if wanted.tag:
            _tag(version, tag, folder)
    except Refused as refused:
        _say(f"stopped: {refused}")
        return 1
    except subprocess.CalledProcessError as failed:
        _say(f"stopped: `{' '.join(map(str, failed.cmd))}` ended with {failed.returncode}")
        return 1
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("version", help="such as 0.2.0")
    parser.add_argument("--build", action="store_true", help="make everything but the tag")
    parser.add_argument("--tag", action="store_true", help="make everything, and the tag")
    parser.add_argument(
        "--without",
        type=lambda text: text.split(","),
        default=[],
        help="parts that another machine makes: image,chart,wheel",
    )
    wanted = parser.parse_args()
    if not VERSION.fullmatch(wanted.version):
        parser.error(f"a version is 1.2.3, 1.2.3rc1, 1.2.3b1 or 1.2.3a1, not {wanted.version!r}")
    unknown = [name for name in wanted.without if name not in MADE_ELSEWHERE]
    if unknown:
        parser.error(f"--without knows {', '.join(MADE_ELSEWHERE)}, not {', '.join(unknown)}")
    return wanted


# What must be so


def _version_problems(version: str) -> list[str]:
    """Every file that names the version of this tree names this one."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    locked = tomllib.loads((ROOT / "uv.lock").read_text("utf-8"))["package"]
    named = {
        "pyproject.toml": project["version"],
        "uv.lock": next(one["version"] for one in locked if one["name"] == project["name"]),
    }
    if (ROOT / CHART).exists():
        text = (ROOT / CHART).read_text("utf-8")
        for key in ("version", "appVersion"):
            match = re.search(rf'^{key}: "?([^"\n]+)"?$', text, re.M)
            named[f"{key} of {CHART}"] = match[1] if match else "nothing"
    return [
        f"{where} says {what}, not {version}" for where, what in named.items() if what != version
    ]


def _git_problems(tag: str) -> list[str]:
    problems = []
    if changed := _git("status", "--porcelain").splitlines():
        first = ", ".join(line.split(maxsplit=1)[1] for line in changed[:3])
        problems.append(f"{len(changed)} files are not as committed: {first}")
    if _git("tag", "--list", tag):
        problems.append(f"there is a tag {tag} already: a release is made once")
    return problems + _previous_problems()


def _previous_problems() -> list[str]:
    """The tests of upgrades have to have begun at the last release."""
    lines = (ROOT / PREVIOUS).read_text("utf-8").splitlines()
    named = [line for line in lines if line and not line.startswith("#")]
    if len(named) != 1 or not _is_ancestor(named[0]):
        return [f"{PREVIOUS} has to name one commit that leads to this one"]
    last = _git("describe", "--tags", "--abbrev=0", "--match", "v[0-9]*", check=False)
    if last and (commit := _git("rev-parse", f"{last}^{{commit}}")) != named[0]:
        return [f"{PREVIOUS} names {named[0][:12]}, and the last release is {last} ({commit})"]
    return []


def _is_ancestor(commit: str) -> bool:
    words = ["git", "merge-base", "--is-ancestor", commit, "HEAD"]
    return subprocess.run(words, cwd=ROOT, capture_output=True).returncode == 0


def _note_problems(version: str) -> list[str]:
    if not _notes(version):
        return [f"CHANGELOG.md has nothing below `## {version}`"]
    if _notes("Unreleased"):
        return [f"CHANGELOG.md still has notes below `## Unreleased`: move them to `## {version}`"]
    return []


def _notes(title: str) -> str:
    """What stands below a heading, which may have a date behind it."""
    text = (ROOT / "CHANGELOG.md").read_text("utf-8")
    parts = re.split(r"^## (.+)$", text, flags=re.M)
    for heading, body in zip(parts[1::2], parts[2::2], strict=True):
        if heading.split()[0].strip("[]") == title:
            return body.strip()
    return ""


def _targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.M))


# What is done


def _show(version: str, steps: list[str], folder: Path) -> None:
    commit = _git("rev-parse", "HEAD")
    _say(f"{commit[:12]} can be released as {version}.  With --build this would make, in {folder}:")
    _say("  the wheel and the source distribution, built twice and compared")
    for name in steps:
        _say(f"  what `make {name}` makes" + (", compiled" if name == "wheel" else ""))
    _say("  notes.md (from CHANGELOG.md), requirements.txt and sbom.cdx.json (from uv.lock)")
    _say("  SHA256SUMS of them all")
    _say(f"and with --tag, after that, the annotated tag v{version}, and {PREVIOUS} anew.")
    _say("\nThe notes:\n")
    _say(_notes(version))


def _build(version: str, steps: list[str], folder: Path) -> None:
    folder.parent.mkdir(exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        with tempfile.TemporaryDirectory(prefix="authgate-release-") as sources:
            for package in _packages(Path(sources)):
                shutil.move(package, made / package.name)
            if "wheel" in steps:
                compiled = _compiled_wheel(Path(sources))
                shutil.move(compiled, made / compiled.name)
        (made / "notes.md").write_text(f"# authgate {version}\n\n{_notes(version)}\n", "utf-8")
        _write_sbom(made / "sbom.cdx.json")
        (made / "requirements.txt").write_text(_requirements(), "utf-8")
        if "chart" in steps:
            _make("chart")
            chart = ROOT / "dist" / f"authgate-{version}.tgz"
            if not chart.exists():
                raise Refused(f"`make chart` left no {chart}")
            _repack(chart, made / f"authgate-chart-{version}.tgz")
            chart.unlink()
        if "image" in steps:
            (made / "image.txt").write_text(_make("image"), "utf-8")
        sums = [
            f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n"
            for path in sorted(made.iterdir())
        ]
        (made / "SHA256SUMS").write_text("".join(sums), "utf-8")
        made.chmod(0o755)
        shutil.rmtree(folder, ignore_errors=True)
        made.rename(folder)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    _say(f"made in {folder}:")
    for line in sums:
        _say(f"  {line.rstrip()}")


def _packages(folder: Path) -> list[Path]:
    """The wheel and the source distribution, built below `folder`."""
    builds = []
    for umask in UMASKS:
        # The commit alone: what git ignores lies beside it in a work tree.
        source = folder / f"{umask:o}"
        source.mkdir()
        archive = subprocess.run(
            ["git", "archive", "HEAD"], cwd=ROOT, check=True, stdout=subprocess.PIPE
        ).stdout
        before = os.umask(umask)
        try:
            subprocess.run(["tar", "-x", "-C", source], input=archive, check=True)
            _uv("build", "--quiet", "--out-dir", str(source / "dist"), str(source))
        finally:
            os.umask(before)
        builds.append(sorted(p for p in (source / "dist").iterdir() if p.suffix in (".whl", ".gz")))
    for one, other in zip(*builds, strict=True):
        if one.name != other.name or one.read_bytes() != other.read_bytes():
            raise Refused(f"two builds differ: {one} and {other}")
    for path in builds[0]:
        path.chmod(0o644)
    return builds[0]


def _compiled_wheel(folder: Path) -> Path:
    """For this kind of machine and this Python: other machines make theirs, of the same tag."""
    out = folder / "compiled"
    words = ["--quiet", "--wheel", "--python", os.path.realpath(sys.executable)]
    source = folder / f"{UMASKS[0]:o}"
    _uv("build", *words, "--out-dir", str(out), str(source), HATCH_BUILD_HOOK_ENABLE_CUSTOM="1")
    [wheel] = out.glob("*.whl")
    wheel.chmod(0o644)
    return wheel


def _repack(archive: Path, to: Path) -> None:
    """Helm writes down when each file was checked out; here it is the time of the commit."""
    with (
        tarfile.open(archive) as before,
        to.open("wb") as file,
        gzip.GzipFile("", "wb", fileobj=file, mtime=_built_at()) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as after,
    ):
        for member in before.getmembers():
            member.mtime, member.mode = _built_at(), 0o755 if member.isdir() else 0o644
            member.uid = member.gid = 0
            member.uname = member.gname = ""
            member.pax_headers = {}
            after.addfile(member, before.extractfile(member))


def _write_sbom(path: Path) -> None:
    """CycloneDX of what `uv.lock` pins; the same for the same commit."""
    text = _uv("export", "--quiet", "--frozen", "--no-dev", "--format", "cyclonedx1.5")
    bill = json.loads(text)
    bill["metadata"]["timestamp"] = datetime.fromtimestamp(_built_at(), UTC).isoformat()
    bill.pop("serialNumber", None)
    content = json.dumps(bill, sort_keys=True)
    bill["serialNumber"] = f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, content)}"
    path.write_text(json.dumps(bill, indent=2) + "\n", "utf-8")


def _requirements() -> str:
    """What `uv.lock` pins, with the digests that pip compares: what was tested is installed."""
    words = ("--no-dev", "--no-emit-project", "--no-annotate", "--no-header")
    return _uv("export", "--quiet", "--frozen", *words)


def _tag(version: str, tag: str, folder: Path) -> None:
    commit = _git("rev-parse", "HEAD")
    sums = (folder / "SHA256SUMS").read_text("utf-8")
    message = f"authgate {version}\n\n{_notes(version)}\n\nSHA-256\n\n{sums}"
    # Headings of the notes begin as comments of git's do.
    words = ["git", "tag", "--annotate", "--cleanup=verbatim", "--file=-", tag, commit]
    subprocess.run(words, cwd=ROOT, check=True, input=message.encode())
    comments = [
        line for line in (ROOT / PREVIOUS).read_text("utf-8").splitlines() if line.startswith("#")
    ]
    (ROOT / PREVIOUS).write_text("\n".join([*comments, commit]) + "\n", "utf-8")
    _say(f"tagged {commit[:12]} as {tag}.  What is left to you:")
    _say(f"  git push origin {tag}, and what lies in {folder} to where it is fetched from")
    _say(f"  commit {PREVIOUS}: from here on upgrades are tested from {version}")


def _make(target: str) -> str:
    done = subprocess.run(
        ["make", "-s", target], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True
    )
    return done.stdout


def _uv(*words: str, **environment: str) -> str:
    done = subprocess.run(
        [ROOT / "bootstrap.sh", "uv", *words],
        cwd=ROOT,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "SOURCE_DATE_EPOCH": str(_built_at()), **environment},
    )
    return done.stdout


def _built_at() -> int:
    """Of the commit, so that whoever builds it gets the same."""
    return int(_git("log", "-1", "--format=%ct"))


def _git(*words: str, check: bool = True) -> str:
    done = subprocess.run(["git", *words], cwd=ROOT, check=False, capture_output=True, text=True)
    if check and done.returncode != 0:
        raise SystemExit(f"git {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout.strip()


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")


if __name__ == "__main__":
    sys.exit(main())
