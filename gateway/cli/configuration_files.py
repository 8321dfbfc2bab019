"""The options by which a command is told where the configuration is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ConfigPath = Annotated[Path, typer.Option("--config", help="The routes file.", show_default=True)]
PoliciesPath = Annotated[Path, typer.Option("--policies", help="The folder of policies.")]
CONFIG = Path("routes.yaml")
POLICIES = Path("policies")
