"""docs/applications/webdav.md, with rclone as the server, and rclone and cadaver as clients."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.applications.recipe import WITHIN_S, Recipe, followed

pytestmark = pytest.mark.slow

PROGRAMS = ["rclone", "cadaver", "jq", "curl"]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recipe]:
    with followed("webdav", tmp_path_factory.mktemp("webdav"), programs=PROGRAMS) as recipe:
        recipe.environment["LC_ALL"] = "C.UTF-8"
        recipe.follow("program:5005", "gateway", "account", "key", "remote")
        yield recipe


def served(recipe: Recipe, name: str) -> Path:
    return recipe.folder / "files" / name


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_rclone_copies_and_moves_names_of_every_kind(files: Recipe) -> None:
    done = files.run("client")
    kept = ["100%25.txt", "50% again.txt", "50%.txt", "Grüße; fertig; Ö.txt"]
    assert sorted(done.stdout.splitlines()) == kept
    assert names(served(files, "papers")) == kept
    assert served(files, "papers/Grüße; fertig; Ö.txt").read_text("utf-8") == "draft\n"
    assert served(files, "papers/50% again.txt").read_text("utf-8") == "half\n"
    # By the server, not by a download and an upload.
    assert ": COPY from" in files.log("program")
    assert ": MOVE from" in files.log("program")


def test_cadaver_copies_moves_and_locks(files: Recipe) -> None:
    files.run("netrc")
    try:
        done = files.run("cadaver")
    finally:
        (files.folder / ".netrc").unlink()
    assert "failed" not in done.stdout, done.stdout
    assert names(served(files, "notes-1%")) == ["minutes; ä.txt", "moved;3%.txt"]
    assert (files.folder / "fetched.txt").read_text("utf-8") == "minutes\n"
    assert ": LOCK from" in files.log("program")


def test_cadaver_asks_for_the_key(files: Recipe) -> None:
    key = (files.folder / "key").read_text("utf-8").strip()
    said = typed(
        files,
        ["cadaver", f"{files.url}/dav/"],
        [("Username:", "ada"), ("Password:", key), ("dav:/dav/>", "ls"), ("dav:/dav/>", "quit")],
    )
    assert "Authentication required for Files" in said
    assert "Listing collection" in said
    assert "succeeded" in said


@pytest.mark.parametrize(
    ("destination", "is_ours"),
    [
        ("http://127.0.0.1:1/dav/taken", False),  # another port of this host: rclone says no
        ("/else/taken", True),
        ("/dav/../../taken", True),
    ],
)
def test_a_destination_elsewhere_is_refused(files: Recipe, destination: str, is_ours: bool) -> None:
    (files.folder / "stays.txt").write_text("stays")
    assert rclone(files, "copyto", "stays.txt", "dav:stays.txt").returncode == 0
    key = (files.folder / "key").read_text("utf-8").strip()
    answer = requests.request(
        "MOVE",
        f"{files.url}/dav/stays.txt",
        auth=("ada", key),
        headers={"Destination": destination},
        timeout=WITHIN_S,
    )
    assert answer.status_code in ({400} if is_ours else {403, 404, 502})
    assert ("Proxy-Status" in answer.headers) is is_ours
    assert served(files, "stays.txt").exists()


def test_a_key_that_reads_does_not_write(files: Recipe) -> None:
    (files.folder / "seen.txt").write_text("seen")
    assert rclone(files, "copyto", "seen.txt", "dav:seen.txt").returncode == 0
    read = rclone(files, "cat", "television:seen.txt")
    assert (read.returncode, read.stdout) == (0, "seen")
    refused = files.run("refused", check=False)
    assert refused.returncode != 0
    assert "403" in refused.stderr
    assert not served(files, "stolen").exists()


def test_a_wrong_key_is_refused(files: Recipe) -> None:
    rclone(
        files, "config", "create", "stranger", "webdav", f"url={files.url}/dav", "vendor=other",
        "user=ada", "pass=agp_" + "0" * 49, "--obscure",
    )  # fmt: skip
    refused = rclone(files, "lsf", "stranger:", "--retries", "1")
    assert refused.returncode != 0
    assert "401" in refused.stderr


def test_a_large_file_goes_up_and_comes_down(files: Recipe) -> None:
    large = os.urandom(24 << 20)
    (files.folder / "large.bin").write_bytes(large)
    assert rclone(files, "copyto", "large.bin", "dav:large.bin").returncode == 0
    assert rclone(files, "copyto", "dav:large.bin", "back.bin").returncode == 0
    assert (files.folder / "back.bin").read_bytes() == large


def rclone(recipe: Recipe, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["rclone", *arguments],
        cwd=recipe.folder,
        env=recipe.environment,
        capture_output=True,
        text=True,
        check=False,
    )


def typed(recipe: Recipe, command: list[str], answers: list[tuple[str, str]]) -> str:
    """What the command says on a terminal where somebody answers each prompt in turn."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        command,
        cwd=recipe.folder,
        env=recipe.environment | {"TERM": "dumb"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    text, seen, until = "", 0, time.monotonic() + WITHIN_S
    for prompt, answer in answers:
        while (at := text.find(prompt, seen)) < 0:
            ready, _, _ = select.select([ours], [], [], until - time.monotonic())
            assert ready, text
            text += os.read(ours, 4096).decode("utf-8", "replace")
        seen = at + len(prompt)
        os.write(ours, answer.encode() + b"\n")
    process.wait(WITHIN_S)
    os.close(ours)
    return text
