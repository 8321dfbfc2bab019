"""The suite's own servers end with it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests import servers


@pytest.mark.skipif(bool(servers.GIVEN_POSTGRES), reason="the servers are somebody else's")
def test_no_server_of_a_suite_outlives_it() -> None:
    # PostgreSQL runs as another user, who may not enter pytest's own folder.
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    test = (
        "tests/stores/test_databases.py::test_texts_with_percents_colons_and_quotes_are_left_alone"
    )
    try:
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", test],
            # A suite of its own, also where this one is a part of many.
            env={
                **{k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")},
                "TMPDIR": str(folder),
            },
            cwd=Path(__file__).parents[1],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, done.stdout
        assert list(folder.glob("authgate-tests-*")) == []
    finally:
        shutil.rmtree(folder, ignore_errors=True)
