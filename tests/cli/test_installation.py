"""Which installation a command works on: never a new one, and it says which."""

from __future__ import annotations

import os
import sqlite3
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import typer

from docs.build import paths
from gateway.cli import build, environment, main
from gateway.stores import migrations

GOOD, NO, USAGE, UNREACHABLE = 0, 1, 2, 3
EMAIL = "alice@example.com"

Gateway = Callable[..., tuple[int, str, str]]


@pytest.fixture
def gateway(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Gateway:
    """Runs a command in an empty folder, on a machine without an installed service."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(environment, "SERVICE_FILE", tmp_path / "etc" / "env")

    def run(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(words)
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return code, said.out, said.err

    return run


def installed(folder: Path, name: str = "env") -> Path:
    """The file of settings of an installation below `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / name
    file.write_text(f"GATEWAY_DATA_DIR={folder}/data\nGATEWAY_BCRYPT_ROUNDS=10\n")
    return file


ON_ACCOUNTS = [
    ("users", "create", EMAIL, "--role", "admin"),
    ("users", "list"),
    ("users", "show", EMAIL),
    ("users", "disable", EMAIL),
    ("users", "delete", EMAIL, "--yes"),
    ("users", "export", EMAIL),
    ("roles", "grant", EMAIL, "admin"),
    ("roles", "list"),
    ("sessions", "list", EMAIL),
    ("sessions", "end", "some-session"),
    ("clients", "create", "billing"),
    ("clients", "list"),
    ("revoke", "user", EMAIL),
    ("revoke", "token", "some-token"),
    ("keys", "list"),
    ("keys", "rotate"),
    ("keys", "reseal"),
    ("audit", "tail"),
    ("audit", "verify"),
    ("db", "status"),
    ("db", "backup", "kept"),
    ("doctor",),
]


@pytest.mark.parametrize("words", ON_ACCOUNTS, ids=" ".join)
def test_a_command_makes_no_installation_and_names_what_it_looked_for(
    gateway: Gateway, tmp_path: Path, words: tuple[str, ...]
) -> None:
    code, out, err = gateway(*words)
    assert code == UNREACHABLE
    assert str(tmp_path / ".gateway" / "gateway.db") in out + err
    assert "--env-file" in out + err
    assert list(tmp_path.iterdir()) == []


def test_a_command_fills_no_empty_database(
    gateway: Gateway, postgres_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GATEWAY_DATABASE_URL", postgres_url)
    code, _, err = gateway("users", "list")
    assert code == UNREACHABLE
    assert "holds no authgate database" in err
    assert "postgresql://" in err
    assert list(tmp_path.iterdir()) == []


def test_the_database_lies_in_the_data_folder(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GATEWAY_DATA_DIR", str(tmp_path / "kept"))
    assert gateway("db", "upgrade")[0] == GOOD
    assert (tmp_path / "kept" / "gateway.db").is_file()
    assert stat.S_IMODE((tmp_path / "kept").stat().st_mode) == 0o700
    assert not (tmp_path / ".gateway").exists()


def test_a_database_of_an_older_version_is_left_as_it_is(gateway: Gateway, tmp_path: Path) -> None:
    gateway("db", "upgrade")
    last = migrations.shipped()[-1].name
    with closing(sqlite3.connect(tmp_path / ".gateway" / "gateway.db")) as database, database:
        database.execute("DELETE FROM schema_migrations WHERE name = ?", (last,))
    code, _, err = gateway("users", "list")
    assert code == UNREACHABLE
    assert last in err
    assert "gateway db upgrade" in err


def test_every_command_takes_a_file_of_settings(gateway: Gateway) -> None:
    for words in [*paths(), ("doctor",)]:
        assert "--env-file" in gateway(*words, "--help")[1], words


def test_the_file_of_settings_is_the_installation(gateway: Gateway, tmp_path: Path) -> None:
    file = installed(tmp_path / "far")
    assert gateway("db", "upgrade", "--env-file", str(file))[0] == GOOD
    code, _, err = gateway("users", "create", EMAIL, "--env-file", str(file))
    assert code == GOOD
    assert str(tmp_path / "far" / "data" / "gateway.db") in err
    assert EMAIL in gateway("users", "list", "--env-file", str(file))[1]
    # And is forgotten by the next command.
    assert gateway("users", "list")[0] == UNREACHABLE


def test_a_file_of_settings_that_is_not_there_is_wrong_usage(gateway: Gateway) -> None:
    code, _, err = gateway("users", "list", "--env-file", "nowhere")
    assert code == USAGE
    assert "nowhere" in err


def test_a_line_of_the_file_that_is_no_setting_is_told(gateway: Gateway, tmp_path: Path) -> None:
    (tmp_path / "env").write_text("GATEWAY_WORKERS=2\nGATEWAY_DRAIN_S 5 seconds\n")
    code, _, err = gateway("users", "list", "--env-file", "env")
    assert code == USAGE
    assert "env:2" in err


def test_the_settings_of_the_installed_service_are_found_and_named(
    gateway: Gateway, tmp_path: Path
) -> None:
    file = installed(tmp_path / "etc")
    gateway("db", "upgrade")
    code, _, err = gateway("users", "create", EMAIL)
    assert code == GOOD
    assert f"settings: {file} (the installed service)" in err
    assert str(tmp_path / "etc" / "data" / "gateway.db") in err


def test_the_settings_of_the_service_are_not_mixed_with_others(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = installed(tmp_path / "etc")
    monkeypatch.setenv("GATEWAY_REDIS_URL", "redis://127.0.0.1:1/")
    code, _, err = gateway("users", "list")
    assert code == UNREACHABLE
    assert str(tmp_path / ".gateway" / "gateway.db") in err
    assert f"{file} was not read, as GATEWAY_REDIS_URL is set here" in err


def test_a_gateway_that_is_started_by_hand_is_not_the_service(
    gateway: Gateway, tmp_path: Path
) -> None:
    """The folder of the service is in use: this one must have its own."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "env").write_text("GATEWAY_WORKERS=many\n")
    code, _, err = gateway("serve")
    assert code == NO
    assert "routes.yaml" in err


def test_whoever_may_not_read_the_settings_of_the_service_is_told(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The default of everything would be another installation."""
    with tempfile.TemporaryDirectory() as made:
        file = installed(Path(made))
        Path(made).chmod(0o755)
        monkeypatch.chdir(made)
        monkeypatch.setattr(environment, "SERVICE_FILE", file)
        with unreadable(file):
            code, _, err = gateway("users", "list")
    assert code == USAGE
    assert str(file) in err
    assert "cannot be read" in err


@contextmanager
def unreadable(path: Path) -> Iterator[None]:
    """The path as somebody sees it who may not read it: root, who reads anything, is not root
    meanwhile."""
    path.chmod(0)
    was = os.geteuid()
    if was == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(was)
        path.chmod(0o700)


CHANGING = [
    ("users", "disable", EMAIL),
    ("users", "enable", EMAIL),
    ("roles", "grant", EMAIL, "manager"),
    ("roles", "revoke", EMAIL, "manager"),
    ("clients", "create", "billing"),
    ("clients", "rotate", "billing"),
    ("clients", "key", "billing"),
    ("clients", "delete", "billing", "--yes"),
    ("revoke", "user", EMAIL),
    ("revoke", "token", "some-token"),
    ("keys", "rotate"),
    ("keys", "reseal"),
    ("users", "delete", EMAIL, "--yes"),
]


def test_a_command_that_changes_something_names_the_database(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GATEWAY_BCRYPT_ROUNDS", "10")
    gateway("db", "upgrade")
    gateway("users", "create", EMAIL)
    for words in CHANGING:
        code, _, err = gateway(*words)
        assert code == GOOD, (words, err)
        assert f"changed in {tmp_path}/.gateway/gateway.db" in err, words
        assert "no gateway" in err, words
    for words in (("users", "list"), ("keys", "list"), ("audit", "tail")):
        assert "changed" not in gateway(*words)[2]


def test_the_database_and_redis_are_named_without_their_secrets(
    gateway: Gateway,
    monkeypatch: pytest.MonkeyPatch,
    postgres_url: str,
    redis_url: str,
) -> None:
    monkeypatch.setenv("GATEWAY_DATABASE_URL", postgres_url)
    monkeypatch.setenv("GATEWAY_REDIS_URL", redis_url)
    monkeypatch.setenv("GATEWAY_BCRYPT_ROUNDS", "10")
    gateway("db", "upgrade")
    gateway("users", "create", EMAIL)
    _, _, err = gateway("roles", "grant", EMAIL, "manager")
    said = next(line for line in err.splitlines() if line.startswith("changed in postgresql://"))
    assert "told over " in said
    assert "search_path" not in said


def test_a_command_is_built_with_the_options_that_it_had() -> None:
    """The option is added to each command without touching the others."""
    serve = typer.main.get_command(build("serve")).commands["serve"]  # type: ignore[attr-defined]
    assert {one.name for one in serve.params} >= {"config", "workers", "shadow", "env_file"}


def test_a_folder_that_may_not_be_looked_into_holds_no_settings(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`sudo -u authgate gateway …` in the home of root."""
    with tempfile.TemporaryDirectory() as made:
        home = Path(made) / "home"
        home.mkdir()
        monkeypatch.chdir(home)
        monkeypatch.setenv("GATEWAY_DATABASE_URL", f"sqlite:///{made}/gateway.db")
        monkeypatch.setenv("GATEWAY_DATA_DIR", made)
        Path(made).chmod(0o755)
        with unreadable(home):
            code, _, err = gateway("users", "list")
    assert code == UNREACHABLE
    assert "there is no database" in err


def test_a_database_that_lies_where_it_once_did_is_not_lost_sight_of(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It was `.gateway/gateway.db` wherever the data folder was."""
    monkeypatch.setenv("GATEWAY_DATABASE_URL", "sqlite:///.gateway/gateway.db")
    gateway("db", "upgrade")
    monkeypatch.delenv("GATEWAY_DATABASE_URL")
    monkeypatch.setenv("GATEWAY_DATA_DIR", str(tmp_path / "data"))
    code, _, err = gateway("serve")
    assert code == USAGE
    assert f"{tmp_path}/.gateway/gateway.db" in err
    assert not (tmp_path / "data").exists()
