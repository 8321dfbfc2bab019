"""docs/applications/git.md, with git as its own server and client."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.applications.recipe import EMAIL, Recipe, followed

pytestmark = pytest.mark.slow

PROGRAMS = ["git", "nginx", "fcgiwrap", "jq", "curl"]


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recipe]:
    with followed("git", tmp_path_factory.mktemp("git"), programs=PROGRAMS) as recipe:
        recipe.follow("repository", "program:9418", "gateway", "account", "key")
        recipe.environment |= {"GIT_TERMINAL_PROMPT": "0", "GIT_CONFIG_NOSYSTEM": "1"}
        answer_with(recipe, "key")
        recipe.run("client")
        yield recipe


def answer_with(recipe: Recipe, file: str) -> None:
    """What a person types at git's prompt; it writes down what git asked."""
    script = recipe.folder / "answer"
    script.write_text(
        f'#!/bin/sh\necho "$1" >> "{recipe.folder}/asked"\ncat "{recipe.folder}/{file}"\n'
    )
    script.chmod(0o700)
    recipe.environment["GIT_ASKPASS"] = str(script)


def git(recipe: Recipe, *arguments: str, folder: str = "app") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["git", *arguments],
        cwd=recipe.folder / folder,
        env=recipe.environment,
        capture_output=True,
        text=True,
        check=False,
    )


def bare(recipe: Recipe) -> Path:
    return recipe.folder / "repositories" / "app.git"


def test_git_asks_for_the_key_and_what_was_pushed_is_there(repository: Recipe) -> None:
    asked = (repository.folder / "asked").read_text("utf-8")
    assert asked.startswith(f"Password for 'http://ada@127.0.0.1:{repository.gateway}'")
    head = git(repository, "rev-parse", "HEAD").stdout
    assert git(repository, "--git-dir", str(bare(repository)), "rev-parse", "main").stdout == head


def test_a_push_larger_than_the_buffer_of_git_goes_through(repository: Recipe) -> None:
    (repository.folder / "app" / "large.bin").write_bytes(os.urandom(12 << 20))
    git(repository, "add", "large.bin")
    identity = ("-c", "user.name=Ada", "-c", f"user.email={EMAIL}")
    assert git(repository, *identity, "commit", "--quiet", "-m", "Large").returncode == 0
    pushed = git(repository, "push", "origin", "HEAD:main")
    assert pushed.returncode == 0, pushed.stderr
    assert git(repository, "pull", "--ff-only", "origin", "main").returncode == 0
    assert git(repository, "fetch", "--quiet", "--depth", "1", "origin", "main").returncode == 0


def test_the_server_is_told_who_pushes(repository: Recipe) -> None:
    hook = bare(repository) / "hooks" / "post-receive"
    hook.write_text('#!/bin/sh\necho "$REMOTE_USER" > pushed-by\n')
    hook.chmod(0o700)
    pushed = git(
        repository, "-c", "http.extraHeader=X-Auth-Email: root@example.com",
        "push", "origin", "HEAD:refs/heads/mine",
    )  # fmt: skip
    assert pushed.returncode == 0, pushed.stderr
    assert (bare(repository) / "pushed-by").read_text("utf-8") == f"{EMAIL}\n"


def test_a_key_that_may_read_clones_and_may_not_push(repository: Recipe) -> None:
    repository.run("build")
    assert (repository.folder / "build" / "README.md").exists()
    refused = repository.run("refused", check=False)
    assert refused.returncode != 0
    assert "returned error: 403" in refused.stderr
    assert "other" not in git(repository, "ls-remote", "origin").stdout


def test_a_wrong_key_is_refused(repository: Recipe) -> None:
    (repository.folder / "wrong").write_text("agp_" + "0" * 49)
    answer_with(repository, "wrong")
    try:
        refused = git(repository, "ls-remote", "origin")
    finally:
        answer_with(repository, "key")
    assert refused.returncode != 0
    assert "Authentication failed" in refused.stderr


def test_a_key_that_ended_is_forgotten_and_a_lost_role_holds_at_once(repository: Recipe) -> None:
    kept = repository.folder / ".git-credentials"
    stored = ("-c", "credential.helper=store")
    assert git(repository, *stored, "ls-remote", "origin").returncode == 0
    assert f"@127.0.0.1%3a{repository.gateway}" in kept.read_text("utf-8")
    gateway(repository, "roles", "revoke", EMAIL, "developer")
    lost = git(repository, *stored, "ls-remote", "origin")
    assert "returned error: 403" in lost.stderr
    gateway(repository, "roles", "grant", EMAIL, "developer")
    assert git(repository, *stored, "ls-remote", "origin").returncode == 0
    keys = json.loads(gateway(repository, "users", "keys", EMAIL, "--json"))
    ended = [key["key_id"] for key in keys if key["name"] == "laptop"]
    gateway(repository, "users", "keys", EMAIL, "end", *ended)
    assert "Authentication failed" in git(repository, *stored, "ls-remote", "origin").stderr
    assert kept.read_text("utf-8") == ""


def gateway(recipe: Recipe, *arguments: str) -> str:
    """A command of the operator."""
    done = subprocess.run(
        ["gateway", *arguments],
        cwd=recipe.folder,
        env=recipe.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
