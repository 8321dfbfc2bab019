"""Secrets towards upstreams: where they come from, and that nothing shows them."""

from __future__ import annotations

import asyncio
import logging
import os
import pickle
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.access.secret_text import SecretText
from gateway.access.snapshot import Snapshot
from gateway.app.upstream_secrets import load_secrets
from gateway.config.compile import Sources, compile_snapshot
from gateway.config.files import Files
from gateway.config.secrets import SecretFiles, SecretSource, UnreadSecrets, variable_of
from gateway.config.watcher import ConfigWatcher, InvalidConfiguration, LastKnownGood
from gateway.model import ConfigProblem

ROUTES = """\
version: 1
upstreams: {{a: {{targets: ["http://127.0.0.1:1"]}}}}
routes:
  - id: one
    match: {{path: /one}}
    auth: public
    upstream: a
    request:
      set_headers: {{{fields}}}
"""
TOKEN = "Authorization: {secret: api-token}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "secrets"
    folder.mkdir()
    return folder


def compiled(fields: str, secrets: SecretSource | None) -> Snapshot | list[ConfigProblem]:
    return compile_snapshot(Sources(("routes.yaml", ROUTES.format(fields=fields))), secrets=secrets)


def sent(fields: str, secrets: SecretSource) -> bytes:
    found = compiled(fields, secrets)
    assert isinstance(found, Snapshot), [str(one) for one in found]
    route = found.routes.get("one")
    assert route is not None
    return route.request_lines


def refused(fields: str, secrets: SecretSource | None = None) -> str:
    found = compiled(fields, secrets)
    assert isinstance(found, list), "the configuration is valid"
    (problem,) = found
    return str(problem)


@pytest.mark.parametrize("content", ["s3cr3t value", "s3cr3t value\n", "s3cr3t value\r\n"])
def test_a_file_gives_a_secret_without_the_end_of_its_line(folder: Path, content: str) -> None:
    (folder / "api-token").write_bytes(content.encode())
    assert sent(TOKEN, SecretFiles(folder)) == b"Authorization: s3cr3t value"


def test_the_environment_gives_a_secret() -> None:
    variables = {"GATEWAY_SECRET_API_TOKEN": SecretText("s3cr3t")}
    fields = "Authorization: {secret: api-token, prefix: 'Bearer '}, X-Zone: eu"
    assert sent(fields, SecretFiles(None, variables)) == (
        b"Authorization: Bearer s3cr3t\r\nX-Zone: eu"
    )
    assert variable_of("a.b-c_d") == "GATEWAY_SECRET_A_B_C_D"


def test_a_secret_that_is_missing_is_told_with_its_place(folder: Path) -> None:
    assert refused(TOKEN) == (
        "routes.yaml:9:45: there is no secret `api-token`: neither GATEWAY_SECRET_API_TOKEN nor "
        "GATEWAY_SECRETS_DIR gives it"
    )
    assert f"nor {folder}/api-token gives it" in refused(TOKEN, SecretFiles(folder))


def test_a_secret_has_one_source(folder: Path) -> None:
    (folder / "api-token").write_text("of-file")
    files = SecretFiles(folder, {"GATEWAY_SECRET_API_TOKEN": SecretText("of-variable")})
    said = refused(TOKEN, files)
    assert "is given twice, by GATEWAY_SECRET_API_TOKEN and by" in said
    assert "of-file" not in said
    assert "of-variable" not in said


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b"a\nHost: evil", "no one line of printable ASCII"),
        (b"a\n\n", "no one line of printable ASCII"),
        (b"a\x00b", "no one line of printable ASCII"),
        (b"a\tb", "no one line of printable ASCII"),
        (b" a", "no one line of printable ASCII"),
        (b"a ", "no one line of printable ASCII"),
        ("ü".encode(), "no one line of printable ASCII"),
        (b"a" * 8_193, "longer than 8192 bytes"),
    ],
)
def test_what_is_no_value_of_a_header_is_refused_and_not_shown(
    folder: Path, content: bytes, says: str
) -> None:
    (folder / "api-token").write_bytes(content)
    said = refused(TOKEN, SecretFiles(folder))
    assert said.startswith("routes.yaml:9:45: the secret `api-token`")
    assert says in said
    if len(content) > 2 and content.strip().isascii():
        assert content.decode() not in said


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=40))
def test_whatever_a_file_holds_one_line_is_sent_or_none(folder: Path, content: bytes) -> None:
    (folder / "api-token").write_bytes(content)
    found = compiled(TOKEN, SecretFiles(folder))
    if isinstance(found, Snapshot):
        route = found.routes.get("one")
        assert route is not None
        assert re.fullmatch(rb"Authorization: [!-~]([ -~]*[!-~])?", route.request_lines)


def test_a_pipe_and_a_folder_are_no_secrets(folder: Path) -> None:
    os.mkfifo(folder / "api-token")
    assert "is no file" in refused(TOKEN, SecretFiles(folder))
    (folder / "other").mkdir()
    assert "is no file" in refused("X-A: {secret: other}", SecretFiles(folder))


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ("X-A: {secret: ../passwd}", "the name of a secret is a letter"),
        ("X-A: {secret: .hidden}", "the name of a secret is a letter"),
        ("X-A: {secret: a/b}", "the name of a secret is a letter"),
        ("X-A: {}", "has no `secret: NAME`"),
        ("X-A: {prefix: 'Bearer '}", "has no `secret: NAME`"),
        ("X-A: {secert: a}", "did you mean `secret`?"),
        ("X-A: {secret: a, prefix: ' Bearer'}", "`prefix` is one line of ASCII text"),
        ("Cookie: {secret: a}", "`Cookie` cannot be changed"),
        ("Proxy-Authorization: {secret: a}", "`Proxy-Authorization` cannot be changed"),
        ("X-Auth-Email: {secret: a}", "`X-Auth-Email` cannot be changed"),
        ("Authorization: Bearer abc", "one of yours is a secret: `{secret: NAME}`"),
    ],
)
def test_what_is_wrong_with_a_secret_is_told(fields: str, says: str) -> None:
    found = compiled(fields, UnreadSecrets())
    assert isinstance(found, list), "the configuration is valid"
    assert any(says in str(problem) for problem in found), [str(one) for one in found]


def test_a_secret_is_never_sent_to_a_client() -> None:
    text = ROUTES.format(fields="X-A: a") + "    response: {set_headers: {X-B: {secret: b}}}\n"
    found = compile_snapshot(Sources(("routes.yaml", text)), secrets=UnreadSecrets())
    assert isinstance(found, list)
    assert "the header `X-B` is one value" in str(found[0])


def test_a_route_sends_one_authorization() -> None:
    text = ROUTES.format(fields=TOKEN) + "    forward_authorization: true\n"
    found = compile_snapshot(Sources(("routes.yaml", text)), secrets=UnreadSecrets())
    assert isinstance(found, list)
    assert "`Authorization` is written by `set_headers`, and `forward_authorization" in str(found)


def test_nothing_shows_a_secret(folder: Path) -> None:
    (folder / "api-token").write_text("s3cr3t")
    files = SecretFiles(folder, {"GATEWAY_SECRET_X": SecretText("v3ry-s3cr3t")})
    found = compiled(TOKEN, files)
    assert isinstance(found, Snapshot)
    route = found.routes.get("one")
    assert route is not None
    assert route.request is not None
    ((_, secret),) = route.request.fields
    shown = f"{found!r} {route!r} {route.request!r} {route.request} {files!r} {files} {secret}"
    assert "s3cr3t" not in shown
    assert "***" in shown
    with pytest.raises(TypeError, match="not written to anything"):
        pickle.dumps(SecretText("s3cr3t"))


def test_where_secrets_lie_is_a_setting_or_what_systemd_says() -> None:
    def folder_of(**environ: str) -> str | None:
        return load_secrets(environ, env_file=None).path("a")

    assert folder_of() == "/run/secrets/a"
    assert folder_of(CREDENTIALS_DIRECTORY="/run/credentials/x") == "/run/credentials/x/a"
    both = {"CREDENTIALS_DIRECTORY": "/run/credentials/x", "GATEWAY_SECRETS_DIR": "/etc/s"}
    assert folder_of(**both) == "/etc/s/a"


def test_a_secret_may_stand_in_the_file_of_settings(tmp_path: Path) -> None:
    (tmp_path / "env").write_text("GATEWAY_SECRET_A='of file'\nGATEWAY_SECRET_B=b\n")
    secrets = load_secrets({"GATEWAY_SECRET_B": "of environment"}, env_file=tmp_path / "env")
    assert secrets.variables["GATEWAY_SECRET_A"] == SecretText("of file")
    assert secrets.variables["GATEWAY_SECRET_B"] == SecretText("of environment")


# Reloading


@pytest.fixture
def watcher(tmp_path: Path, folder: Path) -> ConfigWatcher:
    (tmp_path / "routes.yaml").write_text(ROUTES.format(fields=TOKEN))
    (folder / "api-token").write_text("first\n")
    files = Files(tmp_path / "routes.yaml", tmp_path / "policies")
    (tmp_path / "policies").mkdir()
    return ConfigWatcher(files, LastKnownGood(tmp_path / "last-good"), secrets=SecretFiles(folder))


def line_of(watcher: ConfigWatcher) -> bytes:
    route = watcher.snapshot.routes.get("one")
    assert route is not None
    return route.request_lines


async def until_sent(watcher: ConfigWatcher, line: bytes) -> None:
    async with asyncio.timeout(60):
        while line_of(watcher) != line:
            await asyncio.sleep(0.01)


async def test_a_file_that_is_written_anew_is_sent_from_then_on(
    watcher: ConfigWatcher, folder: Path
) -> None:
    watcher.load()
    assert line_of(watcher) == b"Authorization: first"
    task = asyncio.ensure_future(watcher.watch())
    try:
        (folder / "api-token").write_text("second\n")
        await until_sent(watcher, b"Authorization: second")
        # As Kubernetes does it: a link that leads elsewhere.
        (folder / "new").write_text("third\n")
        os.symlink("new", folder / "link")
        os.replace(folder / "link", folder / "api-token")
        await until_sent(watcher, b"Authorization: third")
    finally:
        task.cancel()


async def test_a_file_that_is_no_good_leaves_what_was_sent(
    watcher: ConfigWatcher, folder: Path
) -> None:
    watcher.load()
    (folder / "api-token").write_text("a\nb\n")
    assert not await watcher.reload()
    assert watcher.stale
    assert line_of(watcher) == b"Authorization: first"
    (folder / "api-token").unlink()
    assert not await watcher.reload()
    task = asyncio.ensure_future(watcher.watch())
    try:
        (folder / "api-token").write_text("second\n")
        await until_sent(watcher, b"Authorization: second")
        assert not watcher.stale
    finally:
        task.cancel()


async def test_a_start_without_a_secret_is_refused_with_its_place(
    watcher: ConfigWatcher, folder: Path
) -> None:
    (folder / "api-token").unlink()
    with pytest.raises(InvalidConfiguration, match=r"routes\.yaml:9:45: there is no secret"):
        watcher.load()


def test_what_is_kept_of_a_configuration_holds_no_secret(
    watcher: ConfigWatcher, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    watcher.load()
    kept = (tmp_path / "last-good" / "configuration.json").read_text()
    assert "api-token" in kept
    assert "first" not in kept
    assert "first" not in caplog.text
