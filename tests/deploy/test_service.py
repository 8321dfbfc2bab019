"""The shipped unit and its file of settings."""

from __future__ import annotations

import base64
import re
import secrets
import shutil
import subprocess
from pathlib import Path

import pytest

from gateway.app.env_file import PREFIX
from gateway.app.settings import load
from gateway.cli.environment import INSTALLED

DEPLOY = Path(__file__).parents[2] / "deploy"
SYSTEMD_READS = Path(
    "/usr/lib/systemd/user-environment-generators/30-systemd-environment-d-generator"
)
"""Prints the files of a folder as systemd's own parser understands them."""
ANALYZE = shutil.which("systemd-analyze")
PASSWORD = "p%231&w!~;(x)"


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    """The example with a secret and passwords that hold what a shell would take for its own."""
    text = (DEPLOY / "env.example").read_text("utf-8").replace("PASSWORD", PASSWORD)
    secret = base64.b64encode(secrets.token_bytes(32)).decode()
    folder = tmp_path / ".config" / "environment.d"
    folder.mkdir(parents=True)
    file = folder / "env.conf"
    file.write_text(text.replace("GATEWAY_KEY_SECRET=''", f"GATEWAY_KEY_SECRET='{secret}'"))
    return file


def assigned(file: Path) -> dict[str, str]:
    """What the lines say, by the rule that the file itself states."""
    return dict(re.findall(rf"^({PREFIX}\w+)='([^']*)'$", file.read_text("utf-8"), re.M))


def printed(words: list[str], home: Path) -> dict[str, str]:
    done = subprocess.run(
        words, capture_output=True, text=True, check=True, env={"HOME": str(home), "PATH": "/bin"}
    )
    assert done.stderr == ""
    lines = (line.partition("=") for line in done.stdout.splitlines())
    return {name: value for name, _, value in lines if name.startswith(PREFIX)}


def test_every_setting_of_the_example_is_quoted_as_it_says() -> None:
    lines = (DEPLOY / "env.example").read_text("utf-8").splitlines()
    settings = [line.lstrip("#") for line in lines if line.lstrip("#").startswith(PREFIX)]
    assert len(settings) > 10
    assert [line for line in settings if not re.fullmatch(r"[A-Z_]+='[^']*'", line)] == []


def test_a_shell_reads_the_example_as_it_stands(filled: Path) -> None:
    assert printed(["sh", "-c", f"set -a; . {filled}; env"], filled.parent) == assigned(filled)


@pytest.mark.skipif(not SYSTEMD_READS.exists(), reason="systemd is not installed")
def test_systemd_reads_the_example_as_it_stands(filled: Path) -> None:
    # Its printer quotes for a shell again, which tells what it understood.
    home = filled.parents[2]
    told = printed(["sh", "-c", f'set -a; eval "$({SYSTEMD_READS})"; env'], home)
    assert told == assigned(filled)


def test_the_gateway_reads_the_example_as_it_stands(filled: Path) -> None:
    settings = load({}, env_file=filled)
    assert settings.database_url == assigned(filled)["GATEWAY_DATABASE_URL"]
    assert settings.mail_from == "Example <accounts@example.com>"
    assert settings.data_dir == Path("/var/lib/authgate")


def test_the_example_names_the_folder_that_the_unit_makes() -> None:
    unit = (DEPLOY / "authgate.service").read_text("utf-8")
    state = re.search(r"^StateDirectory=(.+)$", unit, re.M)
    file = re.search(r"^EnvironmentFile=(.+)$", unit, re.M)
    assert state
    assert assigned(DEPLOY / "env.example")["GATEWAY_DATA_DIR"] == f"/var/lib/{state[1]}"
    assert file
    assert file[1] == INSTALLED


@pytest.mark.skipif(ANALYZE is None, reason="systemd is not installed")
def test_systemd_finds_nothing_wrong_with_the_unit(tmp_path: Path) -> None:
    here = tmp_path / "authgate.service"
    text = (DEPLOY / "authgate.service").read_text("utf-8")
    # It looks for the program, which is not installed here.
    here.write_text(text.replace("/opt/authgate/.venv/bin/gateway", "/bin/true"))
    done = subprocess.run(
        [str(ANALYZE), "verify", "--man=no", str(here)], capture_output=True, text=True, check=False
    )
    assert "authgate.service" not in done.stdout + done.stderr
    assert done.returncode == 0
