"""A newcomer's first five minutes: `gateway dev`, and every line that it prints."""

from __future__ import annotations

import os
import re
import signal
import socket
import stat
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.dev_process import Dev, Ports, environment_of, lay_out, running
from tests.e2e.lines import run_lines
from tests.e2e.processes import children, name_of
from tests.forked import run_command

pytestmark = pytest.mark.slow


@pytest.fixture
def ports(free_port: Callable[[], int]) -> Ports:
    return Ports(free_port(), free_port(), free_port())


@pytest.fixture(scope="module")
def dev(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dev]:
    folder = tmp_path_factory.mktemp("dev")
    ports = Ports.free()
    lay_out(folder, ports)
    with running(folder, ports) as one:
        yield one


def refused(folder: Path, ports: Ports, **settings: str) -> tuple[int, str]:
    """The exit code of a `gateway dev` that does not start, and all that it says."""
    done = run_command(
        ("dev", "--demo-listen", f"127.0.0.1:{ports.demo}"),
        folder=folder,
        environment=environment_of(ports, **settings),
        timeout_s=120,
    )
    return done.returncode, done.stdout + done.stderr


def test_every_printed_line_works_as_printed_in_a_plain_sh(dev: Dev) -> None:
    said = dict(run_lines(dev.printed))
    answers = list(said.values())
    own_order = next(text for text in answers if '"order"' in text)
    assert '"X-Auth-User-Id"' in own_order
    assert '"X-Auth-Email"' in own_order
    assert "Authorization" not in own_order
    assert any('"status": 403' in text and "not_your_order" in text for text in answers)
    assert any('"status": 401' in text and "token_revoked" in text for text in answers)


@pytest.mark.parametrize(
    ("settings", "who"),
    [
        ({"GATEWAY_REGISTRATION": "closed"}, r"demo@example\.com"),
        ({"GATEWAY_EMAIL_VERIFICATION": "required"}, r"demo@example\.com"),
        ({"GATEWAY_REGISTRATION_DOMAINS": "shop.example"}, r"ada-\w+@shop\.example"),
    ],
)
def test_the_printed_lines_work_whoever_may_register(
    tmp_path: Path, ports: Ports, settings: dict[str, str], who: str
) -> None:
    lay_out(tmp_path, ports)
    with running(tmp_path, ports, **settings) as dev:
        said = run_lines(dev.printed)
    assert {found for line, _ in said for found in re.findall(r'"email":"([^"]+)"', line)} == {
        found[0] for found in [re.search(who, dev.printed)] if found
    }
    assert any("token_revoked" in text for _, text in said)


def test_the_demo_user_signs_in_and_sees_every_order(dev: Dev) -> None:
    found = re.search(r"^Demo user +(\S+) +(\S+)", dev.printed, re.M)
    assert found is not None
    base = f"http://127.0.0.1:{dev.ports.public}"
    script = (
        "TOKEN=$(curl -s -H 'Content-Type: application/json' -d "
        f'\'{{"email":"{found[1]}","password":"{found[2]}"}}\' {base}/auth/login'
        ' | sed -n \'s/.*"access_token": *"\\([^"]*\\)".*/\\1/p\');'
        f' curl -s -H "Authorization: Bearer $TOKEN" {base}/v1/users/someone-else/orders/7'
    )
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
    assert '"owner": "someone-else"' in done.stdout


def test_the_printed_admin_token_opens_the_admin_page(dev: Dev) -> None:
    found = re.search(r"^Admin token +(\S+)", dev.printed, re.M)
    assert found is not None
    request = urllib.request.Request(
        f"http://127.0.0.1:{dev.ports.admin}/admin/api/state",
        headers={"Authorization": f"Bearer {found[1]}"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert b'"orders.read"' in answer.read()


def test_what_it_keeps_is_for_its_owner_alone(dev: Dev) -> None:
    data = dev.folder / ".gateway"
    assert stat.S_IMODE(data.stat().st_mode) == 0o700
    for name in ("key-secret", "admin-token", "demo-password", "gateway.db"):
        assert stat.S_IMODE((data / name).stat().st_mode) == 0o600


def test_a_second_gateway_on_the_same_folder_is_refused(
    dev: Dev, free_port: Callable[[], int]
) -> None:
    code, out = refused(dev.folder, Ports(free_port(), free_port(), free_port()))
    assert code == 2
    assert "GATEWAY_DATA_DIR" in out


@pytest.mark.parametrize(
    ("which", "setting"),
    [("public", "GATEWAY_LISTEN"), ("admin", "GATEWAY_ADMIN_LISTEN"), ("demo", "--demo-listen")],
)
def test_a_port_that_is_taken_is_told_with_its_setting(
    tmp_path: Path, ports: Ports, which: str, setting: str
) -> None:
    lay_out(tmp_path, ports)
    with socket.create_server(("127.0.0.1", getattr(ports, which))):
        code, out = refused(tmp_path, ports)
    assert code == 2
    assert f"error: {setting}: 127.0.0.1:{getattr(ports, which)} is in use" in out
    assert "Traceback" not in out


def test_a_demo_backend_that_no_route_leads_to_is_told(
    tmp_path: Path, ports: Ports, free_port: Callable[[], int]
) -> None:
    """Who moves it from a taken port would else be met by 502 without a reason."""
    elsewhere, here = tmp_path / "elsewhere", tmp_path / "here"
    lay_out(elsewhere, Ports(ports.public, ports.admin, free_port()))
    lay_out(here, ports)
    with socket.create_server(("127.0.0.1", ports.public)):  # so that it ends at once
        _, out = refused(elsewhere, ports)
        _, good = refused(here, ports)
    assert f"no upstream of the routes file has the target http://127.0.0.1:{ports.demo}" in out
    assert "no upstream" not in good


def test_wrong_files_are_listed_whole_at_a_first_start(tmp_path: Path, ports: Ports) -> None:
    lay_out(tmp_path, ports)
    text = (tmp_path / "routes.yaml").read_text("utf-8")
    (tmp_path / "routes.yaml").write_text(text + "  - id: a\n    colour: red\n  - id: b\n", "utf-8")
    code, out = refused(tmp_path, ports)
    assert code == 1
    lines = text.count("\n")
    assert f"routes.yaml:{lines + 2}:5: " in out
    assert f"routes.yaml:{lines + 3}:" in out
    assert "Traceback" not in out


def test_dev_refuses_to_serve_others(tmp_path: Path, ports: Ports) -> None:
    lay_out(tmp_path, ports)
    code, out = refused(tmp_path, ports, GATEWAY_LISTEN=f"0.0.0.0:{ports.public}")
    assert code == 2
    assert "GATEWAY_LISTEN" in out


def test_ctrl_c_ends_it_and_leaves_nothing_running(tmp_path: Path, ports: Ports) -> None:
    lay_out(tmp_path, ports)
    with running(tmp_path, ports) as one:
        group = os.getpgid(one.process.pid)
        valkey = [pid for pid in children(one.process.pid) if "valkey" in name_of(pid)]
        assert len(valkey) == 1
        began = time.monotonic()
        os.killpg(group, signal.SIGINT)
        assert one.process.wait(20) == 0
        assert time.monotonic() - began < 5
        assert not Path(f"/proc/{valkey[0]}").exists()


def test_what_was_registered_is_there_after_a_restart(tmp_path: Path, ports: Ports) -> None:
    lay_out(tmp_path, ports)
    with running(tmp_path, ports) as one:
        first = re.search(r"^Demo user .*", one.printed, re.M)
    with running(tmp_path, ports) as one:
        again = re.search(r"^Demo user .*", one.printed, re.M)
        assert first is not None
        assert again is not None
        assert first[0] == again[0]
        run_lines(one.printed)
