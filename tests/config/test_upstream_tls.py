"""The certificate files of upstreams: judged at load, and followed when they change."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from gateway.access.definitions import Tls
from gateway.config.files import Files
from gateway.config.upstream_tls import TlsContexts, file_stamp
from gateway.config.watcher import ConfigWatcher, InvalidConfiguration, LastKnownGood
from tests.certificates import Authority
from tests.config.test_watcher import until

ROUTES = """\
version: 1
upstreams:
  a:
    targets: ["https://a.example"]
    tls:
      ca: {ca}
      certificate: {certificate}
      key: {key}
routes:
  - {{id: one, match: {{path: /one}}, auth: public, upstream: a}}
"""


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def configuration(tmp_path: Path, authority: Authority) -> ConfigWatcher:
    certificate, key = authority.issue("client")
    files = Files(tmp_path / "routes.yaml", tmp_path / "policies")
    files.policies.mkdir()
    text = ROUTES.format(ca=authority.file, certificate=certificate, key=key)
    files.routes.write_text(text)
    return ConfigWatcher(files, LastKnownGood(tmp_path / "last-good"))


@pytest.fixture
async def watched(configuration: ConfigWatcher) -> AsyncIterator[ConfigWatcher]:
    configuration.load()
    task = asyncio.create_task(configuration.watch())
    await asyncio.sleep(0)
    yield configuration
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def tls_of(configuration: ConfigWatcher) -> Tls:
    tls = configuration.snapshot.upstreams["a"].tls
    assert tls is not None
    return tls


def locked(key: Path) -> None:
    """The same key, under a passphrase."""
    held = serialization.load_pem_private_key(key.read_bytes(), None)
    key.write_bytes(
        held.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )


@pytest.mark.parametrize(
    ("wrong", "place", "says"),
    [
        ("no ca", "6:11", "cannot be read: No such file"),
        ("no key", "8:12", "cannot be read: No such file"),
        ("a folder", "7:20", "cannot be read: Is a directory"),
        ("ca is text", "6:11", "no certificate of an authority"),
        ("certificate is text", "7:20", "no certificate in PEM"),
        ("key is text", "8:12", "no private key in PEM"),
        ("key of another", "8:12", "is not the key of the certificate"),
        ("locked key", "8:12", "without a passphrase"),
    ],
)
def test_a_file_that_cannot_do_is_a_problem_with_its_place(
    configuration: ConfigWatcher, authority: Authority, wrong: str, place: str, says: str
) -> None:
    folder = authority.folder
    if wrong.startswith("no "):
        (folder / {"no ca": "ca.pem", "no key": "client.key"}[wrong]).unlink()
    elif wrong == "a folder":
        (folder / "client.pem").unlink()
        (folder / "client.pem").mkdir()
    elif wrong.endswith("is text"):
        named = {"ca": "ca.pem", "certificate": "client.pem", "key": "client.key"}
        (folder / named[wrong.partition(" ")[0]]).write_text("hello\n")
    elif wrong == "key of another":
        os.replace(authority.issue("other")[1], folder / "client.key")
    else:
        locked(folder / "client.key")
    with pytest.raises(InvalidConfiguration) as caught:
        configuration.load()
    (problem,) = map(str, caught.value.problems)
    assert problem.startswith(f"{configuration.files.routes}:{place}: ")
    assert says in problem


def test_a_certificate_may_hold_its_key(configuration: ConfigWatcher, authority: Authority) -> None:
    certificate, key = (authority.folder / f"client.{end}" for end in ("pem", "key"))
    certificate.write_bytes(certificate.read_bytes() + key.read_bytes())
    routes = configuration.files.routes
    routes.write_text(re.sub(r" *key: .*\n", "", routes.read_text()))
    configuration.load()
    assert tls_of(configuration).key is None
    assert configuration.tls.context(tls_of(configuration)) is not None


async def test_files_that_are_written_anew_make_a_new_context(
    watched: ConfigWatcher, authority: Authority
) -> None:
    before = watched.tls.context(tls_of(watched))
    authority.issue("client")
    assert watched.tls.context(tls_of(watched)) is not before
    await until(lambda: not watched._changed())
    assert not watched.stale


async def test_files_that_broke_leave_what_was_good_and_say_so_until_they_are_mended(
    watched: ConfigWatcher, authority: Authority
) -> None:
    before = watched.tls.context(tls_of(watched))
    key = authority.folder / "client.key"
    good = key.read_bytes()
    key.write_text("broken\n")
    assert watched.tls.context(tls_of(watched)) is before
    await until(lambda: watched.stale)
    assert "no private key" in str(watched.problems[0])
    assert watched.tls.context(tls_of(watched)) is before
    key.write_bytes(good)
    await until(lambda: not watched.stale)


async def test_a_mounted_secret_that_is_swapped_by_its_link_is_followed(
    tmp_path: Path, authority: Authority
) -> None:
    """As Kubernetes does it: files are links through `..data`, and that link is replaced."""
    mount = tmp_path / "mount"
    for version in ("..1", "..2"):
        (mount / version).mkdir(parents=True)
        authority.issue("client", mount / version)
    # Written within one tick of a coarse clock, and of one size: only the file itself differs.
    for name in ("client.pem", "client.key"):
        for version in ("..1", "..2"):
            held = mount / version / name
            held.write_bytes(held.read_bytes().ljust(2_048, b"\n"))
            os.utime(held, ns=(0, 1))
        (mount / name).symlink_to(f"..data/{name}")
    (mount / "..data").symlink_to("..1")
    tls = Tls(None, str(mount / "client.pem"), str(mount / "client.key"))
    contexts = TlsContexts()
    before = contexts.context(tls)
    (mount / "..data_tmp").symlink_to("..2")
    os.replace(mount / "..data_tmp", mount / "..data")
    assert contexts.context(tls) is not before


def test_a_gateway_that_starts_while_a_file_is_missing_takes_the_last_good_configuration(
    configuration: ConfigWatcher, authority: Authority
) -> None:
    configuration.load()
    (authority.folder / "client.key").unlink()
    other = ConfigWatcher(configuration.files, configuration.kept)
    other.load()
    assert other.stale
    assert other.snapshot.version == configuration.snapshot.version


def test_a_file_that_is_written_anew_has_another_stamp_whatever_time_it_says(
    tmp_path: Path,
) -> None:
    """Of the same length, in place, with the time of before: as `cp -p` and `rsync --inplace`."""
    file = tmp_path / "key.pem"
    file.write_text("one")
    before, stamp = file.stat(), file_stamp((str(file),))
    file.write_text("two")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert file_stamp((str(file),)) != stamp
