"""The console command `gateway`.

Each command lives in a module that has `register(app)`; only the module of the command
that was asked for is imported, so that `gateway version` does not pay for gunicorn.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

import typer

from gateway.cli.environment import forget_env_file, give_env_file
from gateway.cli.output import CliError, ExitCode, error
from gateway.stores.protocols import StoreUnavailable

# The order of the help page.  A module registers all of its commands.
MODULES = {
    "dev": "serve",
    "serve": "serve",
    "validate": "policy",
    "reload": "policy",
    "explain": "policy",
    "test": "policy",
    "diff": "policy",
    "replay": "policy",
    "why": "why",
    "users": "users",
    "roles": "roles",
    "tenants": "attributes",
    "sessions": "sessions",
    "clients": "clients",
    "revoke": "revoke",
    "keys": "keys",
    "passwords": "passwords",
    "issuers": "issuers",
    "providers": "providers",
    "config": "config_migrate",
    "db": "db",
    "audit": "audit",
    "doctor": "doctor",
    "export": "export",
    "version": "version",
}


def build(command: str | None = None) -> typer.Typer:
    """The application with the module of `command`, or with all of them."""
    app = typer.Typer(
        name="gateway",
        help="authgate: one process in front of your backends that signs people in, judges "
        "every call and tells the backend who is calling.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None if not sys.stdout.isatty() else "rich",
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root)
    names = [MODULES[command]] if command in MODULES else list(dict.fromkeys(MODULES.values()))
    for name in names:
        importlib.import_module(f"gateway.cli.{name}").register(app)
    give_env_file(app)
    return app


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; its exit code (docs/commands.md).  Never a traceback."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    forget_env_file()
    command = next((word for word in words if not word.startswith("-")), None)
    try:
        result = build(command)(words, prog_name="gateway", standalone_mode=False)
        sys.stdout.flush()
    except CliError as stop:
        error(stop.text)
        return stop.code
    except typer.TyperException as wrong:
        if _is_help(wrong):
            # `gateway` or `gateway users` alone: wrong usage, and the page that tells it.
            sys.stderr.write(wrong.format_message().rstrip() + "\n")
            return ExitCode.USAGE
        error(_one_line(wrong.format_message()))
        return wrong.exit_code
    except StoreUnavailable as away:
        error(f"{away.store} could not be reached: {away.detail}")
        return ExitCode.UNREACHABLE
    except typer.Abort:
        return 130
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read has gone; without this the interpreter complains once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.GOOD
    except Exception as defect:
        # The last line of defence: a user is never shown a traceback.
        if sys.flags.dev_mode:
            raise
        error(
            f"this is a defect: {type(defect).__name__}: {defect}"
            " (run `python -X dev -m gateway …` to see where)"
        )
        return ExitCode.DEFECT
    return result if isinstance(result, int) else ExitCode.GOOD


def _root() -> None:
    """Only there so that a single command keeps its name."""


def _is_help(wrong: typer.TyperException) -> bool:
    context = getattr(wrong, "ctx", None)
    return context is not None and wrong.format_message() == context.get_help()


def _one_line(text: str) -> str:
    return " ".join(text.split())
