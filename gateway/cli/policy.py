"""Where the commands about policies are registered."""

from __future__ import annotations

import typer

from gateway.cli import (
    policy_diff,
    policy_explain,
    policy_replay,
    policy_test,
    policy_validate,
)


def register(app: typer.Typer) -> None:
    policy_validate.register(app)
    policy_explain.register(app)
    policy_test.register(app)
    policy_diff.register(app)
    policy_replay.register(app)
