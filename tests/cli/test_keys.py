"""`gateway keys` on an installation that no gateway serves now."""

from __future__ import annotations

import base64
import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption

from gateway.cli import main
from gateway.identity.keys.jwk import Alg, generate, thumbprint
from tests.identity.test_jwk import private_pem, public_pem

GOOD, NO, USAGE, UNREACHABLE = 0, 1, 2, 3
OLD = base64.b64encode(bytes(range(128, 160))).decode()
NEW = base64.b64encode(bytes(range(160, 192))).decode()

Gateway = Callable[..., tuple[int, str, str]]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GATEWAY_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("GATEWAY_DATABASE_URL", f"sqlite:///{tmp_path}/gateway.db")
    monkeypatch.setenv("GATEWAY_SIGNING_ALG", "EdDSA")
    assert main(["db", "upgrade"]) == GOOD
    return tmp_path


@pytest.fixture
def gateway(folder: Path, capsys: pytest.CaptureFixture[str]) -> Gateway:
    """Runs a command; its exit code, its standard output and its standard error."""

    def run(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(words)
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return code, said.out, said.err

    return run


def listed(gateway: Gateway) -> dict[str, dict[str, Any]]:
    code, out, _ = gateway("keys", "list", "--json")
    assert code == GOOD
    return {row["kid"]: row for row in json.loads(out)}


def states(gateway: Gateway) -> list[str]:
    return sorted(row["state"] for row in listed(gateway).values())


def in_state(gateway: Gateway, state: str) -> str:
    return next(kid for kid, row in listed(gateway).items() if row["state"] == state)


def written(folder: Path, pem: bytes) -> str:
    path = folder / "key.pem"
    path.write_bytes(pem)
    return str(path)


def test_the_first_rotation_works_at_once_and_keeps_the_old_key(gateway: Gateway) -> None:
    code, out, _ = gateway("keys", "rotate", "--json")
    assert code == GOOD
    outcome = json.loads(out)
    assert outcome["state"] == "rotated"
    assert states(gateway) == ["active", "next", "retiring"]
    assert in_state(gateway, "retiring") == outcome["retiring"]


def test_a_second_rotation_is_scheduled(gateway: Gateway) -> None:
    gateway("keys", "rotate")
    code, out, err = gateway("keys", "rotate", "--json")
    assert code == GOOD
    outcome = json.loads(out)
    assert outcome["state"] == "scheduled"
    assert 0 < outcome["in_s"] <= 330
    assert "rotates then" in err


def test_the_list_for_people_names_each_key_and_no_private_one(gateway: Gateway) -> None:
    gateway("keys", "rotate")
    code, out, _ = gateway("keys", "list")
    assert code == GOOD
    assert all(kid in out for kid in listed(gateway))
    assert "sealed" not in out


def test_an_import_prints_the_kid_and_nothing_else(gateway: Gateway, folder: Path) -> None:
    key = generate(Alg.ES256)
    code, out, _ = gateway("keys", "import", written(folder, private_pem(key)))
    assert (code, out) == (GOOD, thumbprint(key.public_key()) + "\n")
    assert in_state(gateway, "next") == out.strip()


def test_a_public_key_is_imported_to_verify_only(gateway: Gateway, folder: Path) -> None:
    pem = written(folder, public_pem(generate(Alg.EDDSA)))
    assert gateway("keys", "import", pem)[0] == NO
    code, out, _ = gateway("keys", "import", pem, "--verify-only", "--json")
    assert code == GOOD
    assert json.loads(out)["state"] == "verifying"


def test_rsa_with_2048_bits_is_imported_with_a_warning(gateway: Gateway, folder: Path) -> None:
    pem = written(folder, private_pem(rsa.generate_private_key(65537, 2048)))
    code, out, err = gateway("keys", "import", pem)
    assert code == GOOD
    assert len(out.strip()) == 43
    assert "warning: RSA with 2048 bits" in err


@pytest.mark.parametrize(
    ("pem", "says"),
    [
        (private_pem(rsa.generate_private_key(65537, 1024)), "1024 bits is too weak"),
        (private_pem(ec.generate_private_key(ec.SECP384R1())), "secp384r1"),
        (
            private_pem(generate(Alg.EDDSA), encryption=BestAvailableEncryption(b"x")),
            "is encrypted",
        ),
        (private_pem(generate(Alg.EDDSA)) + public_pem(generate(Alg.EDDSA)), "belong together"),
        (b"nonsense", "no PEM block"),
    ],
)
def test_a_key_that_must_not_be_used_is_refused_in_one_line(
    gateway: Gateway, folder: Path, pem: bytes, says: str
) -> None:
    code, out, err = gateway("keys", "import", written(folder, pem))
    assert (code, out) == (NO, "")
    assert says in err


def test_a_file_that_is_not_there_is_wrong_usage(gateway: Gateway) -> None:
    code, _, err = gateway("keys", "import", "nowhere.pem")
    assert code == USAGE
    assert "nowhere.pem: No such file" in err


def test_revoking_the_active_key_promotes_the_next(gateway: Gateway) -> None:
    gateway("keys", "rotate")
    active, following = in_state(gateway, "active"), in_state(gateway, "next")
    assert gateway("revoke", "key", active)[0] == GOOD
    assert listed(gateway)[active]["state"] == "gone"
    assert in_state(gateway, "active") == following


@pytest.mark.parametrize("kid", ["nobody", "-0EyrNL28aySXkMLiAoOpzLEKBI3DDSIPRkl8YlFunA", "--x"])
def test_revoking_a_key_that_was_never_here_is_a_no(gateway: Gateway, kid: str) -> None:
    """A thumbprint may begin with a dash, and is no option for that."""
    gateway("keys", "rotate")
    code, _, err = gateway("revoke", "key", kid)
    assert code == NO
    assert "keys list" in err


def test_a_secret_is_good_enough_to_be_the_setting(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out, _ = gateway("keys", "secret")
    assert code == GOOD
    assert len(base64.b64decode(out)) == 32
    monkeypatch.setenv("GATEWAY_KEY_SECRET", out.strip())
    assert gateway("keys", "rotate")[0] == GOOD


def test_two_secrets_are_not_the_same(gateway: Gateway) -> None:
    assert gateway("keys", "secret")[1] != gateway("keys", "secret")[1]


def test_a_reseal_lets_the_new_secret_in_and_the_old_one_out(
    gateway: Gateway, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATEWAY_KEY_SECRET", OLD)
    gateway("keys", "rotate")
    (folder / "secret").write_text(NEW + "\n")
    code, out, _ = gateway("keys", "reseal", "--new-secret-file", "secret")
    assert (code, out) == (GOOD, "2 private keys resealed\n")
    code, _, err = gateway("keys", "rotate")
    assert code == USAGE
    assert "another GATEWAY_KEY_SECRET" in err
    monkeypatch.setenv("GATEWAY_KEY_SECRET", NEW)
    assert gateway("keys", "rotate")[0] == GOOD


def test_a_reseal_of_a_secret_in_the_environment_needs_the_new_one(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATEWAY_KEY_SECRET", OLD)
    gateway("keys", "rotate")
    code, _, err = gateway("keys", "reseal")
    assert code == USAGE
    assert "--new-secret-file" in err


def test_a_new_secret_that_is_no_text_is_wrong_usage(
    gateway: Gateway, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATEWAY_KEY_SECRET", OLD)
    (folder / "secret").write_bytes(b"\xff" * 32)
    assert gateway("keys", "reseal", "--new-secret-file", "secret")[0] == USAGE


def test_a_new_secret_that_could_be_guessed_is_refused_unshown(
    gateway: Gateway, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATEWAY_KEY_SECRET", OLD)
    guessable = base64.b64encode(b"correct horse battery staple, you know").decode()
    (folder / "secret").write_text(guessable)
    code, _, err = gateway("keys", "reseal", "--new-secret-file", "secret")
    assert code == USAGE
    assert guessable not in err


def test_a_secret_that_the_data_folder_keeps_is_replaced_there(
    gateway: Gateway, folder: Path
) -> None:
    gateway("keys", "rotate")
    kept = folder / "data" / "key-secret"
    before = kept.read_bytes()
    assert gateway("keys", "reseal")[0] == GOOD
    assert kept.read_bytes() != before
    assert kept.stat().st_mode & 0o777 == 0o600
    assert gateway("revoke", "key", in_state(gateway, "active"))[0] == GOOD


def test_a_reseal_that_was_killed_before_it_kept_the_secret_is_ended_by_the_next(
    gateway: Gateway, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQL has the new secret, the folder still the old one."""
    gateway("keys", "rotate")
    kept = folder / "data" / "key-secret"
    before = kept.read_bytes()
    assert gateway("keys", "reseal")[0] == GOOD
    after = kept.read_bytes()
    kept.write_bytes(before)
    (folder / "data" / "key-secret.new").write_bytes(after)
    code, out, _ = gateway("keys", "reseal")
    assert (code, out) == (GOOD, "0 private keys resealed\n")
    assert kept.read_bytes() == after
    assert not (folder / "data" / "key-secret.new").exists()
    assert gateway("revoke", "key", in_state(gateway, "active"))[0] == GOOD


def test_a_reseal_that_found_no_room_for_the_secret_leaves_nothing_behind(
    gateway: Gateway, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a secret would be taken up by the next one."""
    gateway("keys", "rotate")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr("gateway.cli.keys.os.fsync", full)
        code, _, err = gateway("keys", "reseal")
    assert (code, "No space left" in err) == (UNREACHABLE, True), err
    assert [path.name for path in (folder / "data").glob("*key-secret*")] == ["key-secret"]
    assert gateway("keys", "reseal")[0] == GOOD
    assert gateway("revoke", "key", in_state(gateway, "active"))[0] == GOOD


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, as an operator of a service is")
def test_a_secret_that_root_makes_is_read_by_the_service(gateway: Gateway, folder: Path) -> None:
    data = folder / "data"
    os.chown(data, 65_534, 65_534)
    assert gateway("keys", "reseal")[0] == 0
    kept = (data / "key-secret").stat()
    assert (kept.st_uid, kept.st_gid, kept.st_mode & 0o777) == (65_534, 65_534, 0o600)
