"""An installation that no gateway serves now: how a command is run on it, and how it ends."""

from __future__ import annotations

from collections.abc import Callable

Gateway = Callable[..., tuple[int, str]]
"""Runs a command; its exit code and what it wrote to standard output."""
GOOD, NO, USAGE, UNREACHABLE = 0, 1, 2, 3
