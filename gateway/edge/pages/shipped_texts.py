"""The catalogues that ship with the package."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path

import yaml

SHIPPED = Path(__file__).parent / "texts"


@cache
def shipped_texts() -> Mapping[str, Mapping[str, str]]:
    """By language: the name of each file.  They are read once.

    `safe_load` reads in Python, and takes eight times as long.
    """
    return {
        path.stem: yaml.CSafeLoader(path.read_text("utf-8")).get_data()
        for path in sorted(SHIPPED.glob("*.yaml"))
    }
