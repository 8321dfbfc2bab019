"""The engine is loaded without the command line tool of its package, and only once."""

from __future__ import annotations

import subprocess
import sys

import pytest

OURS = "import gateway.access.conditions.engine as ours"


def printed(*lines: str) -> str:
    """Of a process of its own: this one has imported everything by now."""
    return subprocess.check_output([sys.executable, "-c", "\n".join(lines)], text=True).strip()


def test_a_gateway_does_not_read_a_prompt_and_its_highlighter() -> None:
    brought = "print([name for name in ('cel.cli', 'prompt_toolkit') if name in sys.modules])"
    assert printed("import sys, gateway.cli.serve", brought) == "[]"


@pytest.mark.parametrize("lines", [(OURS, "import cel"), ("import cel", OURS)])
def test_who_imports_the_whole_package_gets_the_same_engine(lines: tuple[str, str]) -> None:
    same = "print(cel.compile is ours.cel.compile, ours.cel.compile('1 + 1').execute({}))"
    assert printed(*lines, same) == "True 2"
