"""The data folder: private, owned by one gateway, and kept between starts."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.app.data_dir import DataFolder, FolderError


@pytest.fixture
def folder(tmp_path: Path) -> DataFolder:
    one = DataFolder(tmp_path / "data")
    one.make()
    return one


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_it_is_for_its_owner_alone(folder: DataFolder) -> None:
    assert mode(folder.path) == mode(folder.workers) == 0o700


def test_a_folder_that_others_could_read_is_tightened(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir(mode=0o755)
    (tmp_path / "open").chmod(0o755)
    DataFolder(tmp_path / "open").make()
    assert mode(tmp_path / "open") == 0o700


def test_what_is_no_folder_is_refused_with_its_setting(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FolderError, match="GATEWAY_DATA_DIR"):
        DataFolder(tmp_path / "file").make()


def test_secrets_are_made_once_and_kept(folder: DataFolder) -> None:
    again = DataFolder(folder.path)
    assert folder.key_secret() == again.key_secret()
    assert len(folder.key_secret()) == 32
    assert folder.admin_token() == again.admin_token()
    assert folder.demo_password() == again.demo_password()
    assert len({folder.admin_token(), folder.demo_password()}) == 2


def test_secrets_are_for_their_owner_alone(folder: DataFolder) -> None:
    folder.key_secret()
    folder.admin_token()
    assert mode(folder.path / "key-secret") == mode(folder.path / "admin-token") == 0o600
    assert sorted(os.listdir(folder.path)) == ["admin-token", "key-secret", "workers"]


@pytest.mark.parametrize("content", [b"", b"short\n", b"\xff\xfe\n", b"A" * 39])
def test_a_damaged_key_secret_is_refused_and_never_replaced(
    folder: DataFolder, content: bytes
) -> None:
    """A new one would leave the signing keys unreadable for good."""
    (folder.path / "key-secret").write_bytes(content)
    with pytest.raises(FolderError, match="key-secret"):
        folder.key_secret()
    assert (folder.path / "key-secret").read_bytes() == content


ASK = """
import sys
from pathlib import Path
from gateway.app.data_dir import DataFolder
sys.stdin.read(1)
print(DataFolder(Path(sys.argv[1])).admin_token())
"""


def test_two_that_start_at_once_agree_on_a_secret(folder: DataFolder) -> None:
    ready, go = os.pipe()
    asking = [
        subprocess.Popen(
            [sys.executable, "-c", ASK, str(folder.path)],
            stdin=ready, stdout=subprocess.PIPE, text=True,
        )
        for _ in range(4)
    ]  # fmt: skip
    os.close(ready)
    os.close(go)
    said = {one.communicate(timeout=60)[0].strip() for one in asking}
    assert said == {folder.admin_token()}


def test_one_gateway_at_a_time_owns_it(folder: DataFolder) -> None:
    other = DataFolder(folder.path)
    assert not folder.in_use()
    assert folder.lock()
    assert other.in_use()
    assert not other.lock()


def test_looking_whether_it_is_in_use_takes_nothing(folder: DataFolder) -> None:
    assert folder.lock()
    assert DataFolder(folder.path).in_use()
    assert DataFolder(folder.path).in_use()


def test_a_folder_that_was_never_made_is_not_in_use(tmp_path: Path) -> None:
    assert not DataFolder(tmp_path / "none").in_use()
