"""What every test may ask for."""

from __future__ import annotations

import gc
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from gateway.cli import environment, serve
from tests import forked, ports, servers

pytest_plugins = ["tests.fixtures_stores"]

# No example is held against the clock: the machine may be busy.
settings.register_profile("suite", deadline=None)
if settings.get_current_profile_name() == "default":
    settings.load_profile("suite")

STARTING = (
    "tests/e2e/",
    "tests/contract/",
    "tests/deploy/",
    "tests/browser/",
    "tests/upstreams/",
    "tests/providers/",
)


LONGEST = (
    "tests/deploy/test_image.py",
    "tests/deploy/test_pod.py",
    "tests/compiled/test_wheels.py",
    "tests/test_scenarios.py",
    "tests/browser/test_pages_with_all.py",
    "tests/browser/test_spa.py",
    "tests/applications/test_mlflow.py",
    "tests/applications/test_pgadmin.py",
    "tests/e2e/test_store_faults.py",
    "tests/browser/test_pages.py",
    "tests/e2e/test_wrong_redis.py",
    "tests/e2e/test_balancer.py",
    "tests/browser/test_console.py",
    "tests/applications/test_jupyterhub.py",
    "tests/e2e/test_processes.py",
    "tests/e2e/test_nodes.py",
)
"""Each of them takes a minute or more."""

LONG = (
    "tests/contract/test_openapi.py",
    "tests/cli/test_db.py",
    "tests/revocation/test_replica.py",
    "tests/edge/streams/test_registry.py",
    "tests/test_docs.py",
    "tests/test_suite_ends.py",
)
"""Of the quick ones: ten seconds or more, most of which they wait; else they would come last."""

SLOW = re.compile(
    r"^pytestmark = (?:.*\bpytest\.mark\.slow\b|\[\n(?: .*\n)*? +pytest\.mark\.slow,)", re.M
)
"""What makes the whole of a file slow."""


FORKED = ("tests/browser/", "tests/providers/")
"""Of the slow tests those that are about what a gateway says, as the quick ones are."""


MEMORY = Path("/dev/shm")
ROOM_BYTES = 4 << 30
"""Several times what the quick tests ever have there at once."""


def pytest_configure(config: pytest.Config) -> None:
    """Quick tests write into memory: else they wait for the disk each time a store keeps something,
    a third of the time of those that have one."""
    if config.option.markexpr != "not slow":
        return
    if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > ROOM_BYTES:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Gateways that are frozen, starved and looked at from outside are executed, as in service."""
    told_alone = item.config.option.markexpr == "not slow" or item.nodeid.startswith(FORKED)
    forked.gateways = told_alone and not forked.measured()


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Every process of pytest-xdist reads every file.  `make test` leaves those out of which it
    runs nothing: they bring drivers of browsers and the like with them."""
    if config.option.markexpr != "not slow" or not collection_path.name.startswith("test_"):
        return None
    return True if SLOW.search(collection_path.read_text("utf-8")) else None


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """What is collected stays until the end: nobody looks for garbage in it, now or later."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files come first, and then those that start processes: pytest-xdist hands out
    whole files, and the last ones should be short."""
    items.sort(
        key=lambda item: (
            item.nodeid.partition("::")[0] not in (*LONGEST, *LONG),
            not item.nodeid.startswith(STARTING),
        )
    )


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Nothing of the suite outlives it."""
    if not hasattr(session.config, "workerinput"):
        servers.end_shared()


@pytest.fixture(autouse=True, scope="session")
def _logs_of_the_suite() -> None:
    """A start within a test would set the logs up for a standard error that ends with the test,
    and every logger that speaks meanwhile keeps it."""

    def left_alone(level: str = "info") -> None:
        del level

    serve.__dict__["configure"] = left_alone


@pytest.fixture(autouse=True, scope="session")
def _no_settings_of_the_developer() -> None:
    """A `GATEWAY_*` of whoever runs the tests must not steer them, nor the settings of a service
    that is installed on their machine."""
    environment.SERVICE_FILE = Path("/nonexistent/authgate/env")
    for name in [name for name in os.environ if name.startswith("GATEWAY_")]:
        del os.environ[name]


@pytest.fixture
def free_port() -> Callable[[], int]:
    """Ports of 127.0.0.1 that nobody listens on now; each call gives another one."""
    return ports.free_port
