"""The option `--env-file`, which every command has, and what it was given."""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable
from contextvars import ContextVar
from pathlib import Path
from typing import Annotated, Any

import typer

EnvFile = Annotated[
    Path | None,
    typer.Option(
        "--env-file",
        metavar="F",
        help="Settings of this file (the environment wins); else .env, else the service's.",
        show_default=False,
    ),
]
_chosen: ContextVar[Path | None] = ContextVar("env_file", default=None)


def give_env_file(app: typer.Typer) -> None:
    """Adds `--env-file` to every command of `app` and of its groups."""
    for command in app.registered_commands:
        if command.callback is not None:
            command.callback = _taking_env_file(command.callback)
    for group in app.registered_groups:
        inner = group.typer_instance
        if inner is None:
            continue
        alone = inner.registered_callback
        if alone is not None and alone.callback is not None:
            alone.callback = _taking_env_file(alone.callback)
        give_env_file(inner)


def forget_env_file() -> None:
    """Another command begins in this process."""
    _chosen.set(None)


def chosen_env_file() -> Path | None:
    """What `--env-file` of the command names; None where it is not given."""
    return _chosen.get()


def _taking_env_file(command: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(command)
    def taking(*args: Any, env_file: Path | None = None, **kwargs: Any) -> Any:
        if env_file is not None:
            _chosen.set(env_file)
        return command(*args, **kwargs)

    signature = inspect.signature(command)
    option = inspect.Parameter(
        "env_file", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=EnvFile
    )
    hints = typing.get_type_hints(command, include_extras=True)
    known = [
        one.replace(annotation=hints.get(name, one.annotation))
        for name, one in signature.parameters.items()
    ]
    taking.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[*known, option], return_annotation=None
    )
    taking.__annotations__ = {**hints, "env_file": EnvFile}
    return taking
