"""`make release`, in a copy of the repository with a commit of its own on top."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
NOTES = "- The first version.\n\n### Renamed\n\n- Nothing."

pytestmark = pytest.mark.slow


class Copy:
    """A clone, as somebody has it who releases."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def git(self, *words: str) -> str:
        named = ["-c", "user.name=Releaser", "-c", "user.email=releaser@example.com"]
        done = subprocess.run(
            ["git", *named, *words], cwd=self.folder, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    def commit(self) -> None:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", "Prepare a release")

    def edit(self, name: str, change: Callable[[str], str]) -> None:
        path = self.folder / name
        path.write_text(change(path.read_text("utf-8")), "utf-8")

    def release(self, *words: str, version: str = VERSION) -> tuple[int, str]:
        done = subprocess.run(
            ["make", "-s", "release", f"VERSION={version}", f"ARGS={' '.join(words)}"],
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=280,
        )
        return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Copy:
    """Of what is committed and of what is not yet, so that an edit of a script counts."""
    folder = tmp_path_factory.mktemp("release") / "copy"
    subprocess.run(
        ["git", "clone", "--quiet", "--no-tags", "--shared", str(ROOT), str(folder)], check=True
    )
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.split("\0")  # fmt: skip
    for name in filter(None, listed):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    if (ROOT / ".tools" / "uv").is_dir():
        (folder / ".tools").mkdir()
        (folder / ".tools" / "uv").symlink_to(ROOT / ".tools" / "uv")
    copy = Copy(folder)
    copy.git("config", "user.name", "Releaser")
    copy.git("config", "user.email", "releaser@example.com")
    (folder / "CHANGELOG.md").write_text(
        f"# Changes\n\n## Unreleased\n\n## {VERSION} (2026-11-28)\n\n{NOTES}\n\n## 0.0.1\n\n- Old.\n"
    )
    copy.commit()
    copy.git("branch", "begin")
    return copy


@pytest.fixture
def copy(clone: Copy) -> Copy:
    """As it was before the test before."""
    clone.git("checkout", "--quiet", "--force", "-B", "work", "begin")
    clone.git("clean", "--quiet", "-fd")
    if tags := clone.git("tag").split():
        clone.git("tag", "--delete", *tags)
    shutil.rmtree(clone.folder / "dist", ignore_errors=True)
    return clone


def test_a_look_shows_what_would_be_made_and_makes_nothing(copy: Copy) -> None:
    code, said = copy.release()
    assert code == 0, said
    assert f"can be released as {VERSION}" in said
    assert "what `make image` makes" in said
    assert "what `make chart` makes" in said
    assert NOTES in said
    assert "Old." not in said
    assert not (copy.folder / "dist").exists()
    assert copy.git("tag") == ""


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (
            lambda copy: (copy.folder / "left.txt").write_text("x"),
            "1 files are not as committed: left.txt",
        ),
        (
            lambda copy: copy.edit("CHANGELOG.md", lambda text: text.replace(NOTES, "")),
            f"nothing below `## {VERSION}`",
        ),
        (
            lambda copy: copy.edit(
                "CHANGELOG.md", lambda text: text.replace("## Unreleased\n", "## Unreleased\n- x\n")
            ),
            "still has notes below `## Unreleased`",
        ),
        (
            lambda copy: copy.edit(
                "pyproject.toml", lambda text: text.replace(f'"{VERSION}"', '"9.9.9"', 1)
            ),
            f"pyproject.toml says 9.9.9, not {VERSION}",
        ),
        (
            lambda copy: copy.edit(
                "deploy/chart/authgate/Chart.yaml",
                lambda text: text.replace(f"\nversion: {VERSION}", "\nversion: 9.9.9"),
            ),
            f"Chart.yaml says 9.9.9, not {VERSION}",
        ),
        (
            lambda copy: copy.git("tag", f"v{VERSION}"),
            f"there is a tag v{VERSION} already",
        ),
        (
            lambda copy: copy.edit("deploy/release/previous", lambda _: f"{'0' * 40}\n"),
            "has to name one commit that leads to this one",
        ),
        (
            lambda copy: copy.git("tag", "--annotate", "--message", "x", "v0.0.9", "HEAD~1"),
            "and the last release is v0.0.9",
        ),
    ],
)
def test_what_is_not_ready_is_named_and_nothing_is_made(
    copy: Copy, spoil: Callable[[Copy], object], told: str
) -> None:
    spoil(copy)
    if "as committed" not in told:
        copy.commit()
    code, said = copy.release("--tag")
    assert code != 0
    assert told in said
    assert not (copy.folder / "dist").exists()


@pytest.mark.parametrize("version", ["", "1.2", "v0.1.0", "1.2.3;id"])
def test_what_is_no_version_is_refused(copy: Copy, version: str) -> None:
    code, said = copy.release(version=version)
    assert code != 0
    assert "VERSION=" in said or "a version is 1.2.3" in said


def test_a_release_is_the_same_twice_and_its_tag_says_what_it_is_made_of(copy: Copy) -> None:
    # With a stand-in for what the target does: it has tests of its own.
    copy.edit(
        "Makefile",
        lambda text: re.sub(
            r"^chart: .*?(?=\n\n)",
            f"chart:\n\t@mkdir -p dist && tar -czf dist/authgate-{VERSION}.tgz deploy/chart",
            text,
            flags=re.M | re.S,
        ),
    )
    copy.commit()
    code, said = copy.release("--tag", "--without", "image,wheel")
    assert code == 0, said
    folder = copy.folder / "dist" / f"authgate-{VERSION}"
    wheel = folder / f"authgate-{VERSION}-py3-none-any.whl"
    sums = (folder / "SHA256SUMS").read_text()
    named = {name: digest for digest, name in (line.split("  ") for line in sums.splitlines())}
    assert set(named) == {
        wheel.name, f"authgate-{VERSION}.tar.gz", "notes.md", "sbom.cdx.json", "requirements.txt",
        f"authgate-chart-{VERSION}.tgz",
    }  # fmt: skip
    with tarfile.open(folder / f"authgate-chart-{VERSION}.tgz") as chart:
        assert "deploy/chart/authgate/Chart.yaml" in chart.getnames()
    for name, digest in named.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
    assert (folder / "notes.md").read_text() == f"# authgate {VERSION}\n\n{NOTES}\n"
    parts = json.loads((folder / "sbom.cdx.json").read_text())["components"]
    assert {"aiohttp", "psycopg"} <= {part["name"] for part in parts}
    assert "pytest" not in {part["name"] for part in parts}
    pinned = (folder / "requirements.txt").read_text()
    assert re.search(r"^aiohttp==\S+ \\\n    --hash=sha256:", pinned, re.M)
    assert "authgate" not in pinned
    assert str(copy.folder) not in pinned
    with zipfile.ZipFile(wheel) as archive:
        assert "gateway/stores/schema/0001_accounts.sql" in archive.namelist()

    tag = f"v{VERSION}"
    assert copy.git("cat-file", "-t", tag) == "tag"
    commit = copy.git("rev-parse", "HEAD")
    assert copy.git("rev-parse", f"{tag}^{{commit}}") == commit
    told = copy.git("tag", "--list", "--format=%(contents)", tag)
    assert NOTES in told
    assert sums.strip() in told

    # The next upgrade begins here.
    assert (copy.folder / "deploy/release/previous").read_text().splitlines()[-1] == commit
    assert re.findall(r"^ M (.+)$", " " + copy.git("status", "--porcelain"), re.M) == [
        "deploy/release/previous"
    ]
    copy.commit()
    again = copy.release("--build")
    assert again[0] != 0
    assert "a release is made once" in again[1]

    # Somebody else builds the tag later, elsewhere.
    copy.git("checkout", "--quiet", "--force", tag)
    copy.git("tag", "--delete", tag)
    shutil.rmtree(copy.folder / "dist")
    for path in (copy.folder / "deploy" / "chart").rglob("*"):
        os.utime(path, (1, 1))
    assert copy.release("--build", "--without", "image,wheel")[0] == 0
    assert (folder / "SHA256SUMS").read_text() == sums


def test_a_build_that_fails_leaves_what_was_made_before(copy: Copy) -> None:
    kept = copy.folder / "dist" / f"authgate-{VERSION}" / "kept"
    kept.parent.mkdir(parents=True)
    kept.touch()
    copy.edit("pyproject.toml", lambda text: text.replace("hatchling.build", "hatchling.bulid"))
    copy.commit()
    code, said = copy.release("--build", "--without", "image,chart,wheel")
    assert code != 0
    assert "stopped: " in said
    assert kept.exists()
    assert [path.name for path in kept.parents[1].iterdir()] == [kept.parent.name]


def test_the_script_needs_nothing_but_python() -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-S", ROOT / "deploy/release/release.py", "--help"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
