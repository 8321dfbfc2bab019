"""The files beside an issuer: its authorities, and the secrets by which we ask it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.access.secret_text import SecretText
from gateway.config.files import Files
from gateway.config.secrets import SecretFiles
from gateway.config.upstream_tls import tls_of_issuer
from gateway.config.watcher import ConfigWatcher, InvalidConfiguration, LastKnownGood
from tests.certificates import Authority
from tests.config.test_watcher import until

ROUTES = """\
version: 1
issuers:
  idp:
    issuer: https://id.example
    audience: api
    ca: {ca}
    introspection: {{client_id: gateway, client_secret: {{secret: idp}}}}
upstreams: {{a: {{targets: ["http://127.0.0.1:1"]}}}}
routes:
  - {{id: one, match: {{path: /one}}, policy: signed-in, upstream: a, issuers: [idp]}}
"""


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def configuration(tmp_path: Path, authority: Authority) -> ConfigWatcher:
    files = Files(tmp_path / "routes.yaml", tmp_path / "policies")
    files.policies.mkdir()
    files.routes.write_text(ROUTES.format(ca=authority.file))
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "idp").write_text("first\n")
    return ConfigWatcher(files, LastKnownGood(tmp_path / "last-good"), secrets=SecretFiles(secrets))


@pytest.fixture
async def watched(configuration: ConfigWatcher) -> AsyncIterator[ConfigWatcher]:
    configuration.load()
    task = asyncio.create_task(configuration.watch())
    await asyncio.sleep(0)
    yield configuration
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def secret(configuration: ConfigWatcher) -> SecretText | None:
    introspection = configuration.snapshot.issuers["idp"].introspection
    assert introspection is not None
    return introspection.secret


@pytest.mark.parametrize(
    ("content", "says"),
    [(None, "cannot be read: No such file"), ("hello\n", "holds no certificate of an authority")],
)
def test_authorities_that_cannot_do_are_a_problem_with_its_place(
    configuration: ConfigWatcher, authority: Authority, content: str | None, says: str
) -> None:
    authority.file.unlink()
    if content is not None:
        authority.file.write_text(content)
    with pytest.raises(InvalidConfiguration) as caught:
        configuration.load()
    (problem,) = map(str, caught.value.problems)
    assert problem.startswith(f"{configuration.files.routes}:6:9: ")
    assert says in problem


def test_the_authorities_of_an_issuer_are_made_ready(configuration: ConfigWatcher) -> None:
    configuration.load()
    tls = tls_of_issuer(configuration.snapshot.issuers["idp"])
    assert configuration.tls.context(tls) is configuration.tls.context(tls)


async def test_authorities_that_broke_are_told_until_they_are_mended(
    watched: ConfigWatcher, authority: Authority
) -> None:
    good = authority.file.read_bytes()
    authority.file.write_text("broken\n")
    await until(lambda: watched.stale)
    authority.file.write_bytes(good)
    await until(lambda: not watched.stale)


async def test_a_secret_that_is_written_anew_is_asked_with(
    watched: ConfigWatcher, tmp_path: Path
) -> None:
    assert secret(watched) == SecretText("first")
    (tmp_path / "secrets" / "idp").write_text("second\n")
    await until(lambda: secret(watched) == SecretText("second"))


def test_an_issuer_that_we_are_ourselves_is_refused(configuration: ConfigWatcher) -> None:
    configuration.own_issuer = "https://id.example"
    with pytest.raises(InvalidConfiguration) as caught:
        configuration.load()
    (problem,) = map(str, caught.value.problems)
    assert "`https://id.example` is this gateway itself (GATEWAY_ISSUER)" in problem
