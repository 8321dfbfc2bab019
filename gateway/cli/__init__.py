"""The console command `gateway`.

Each command lives in a module that has `register(app)`; only the module of the command
that was asked for is imported, so that `gateway version` does not pay for gunicorn.  The help
page of `gateway` itself imports none of them: what it says of each stands here.
"""

from __future__ import annotations

import gc
import importlib
import os
import sys
from collections.abc import Sequence
from typing import NamedTuple

import typer

from gateway.cli.env_file_option import forget_env_file, give_env_file
from gateway.cli.lean_imports import import_lean
from gateway.cli.output import CliError, ExitCode, error
from gateway.stores.protocols import StoreUnavailable


class CommandPlace(NamedTuple):
    module: str
    """Of this package; it registers all of its commands."""
    summary: str
    """For the help page of `gateway`: the first sentence of what the command says of itself."""


# The order of the help page.
COMMANDS = {
    "dev": CommandPlace(
        "serve",
        "Serve on loopback with embedded stores and a demo backend, and print lines to try.",
    ),
    "serve": CommandPlace("serve", "Serve."),
    "validate": CommandPlace("policy_validate", "Check the configuration."),
    "reload": CommandPlace(
        "policy_validate", "Check the configuration, and tell whether the running gateway has it."
    ),
    "explain": CommandPlace(
        "policy_explain",
        "Tell how a call would be decided, and which line decides.",
    ),
    "test": CommandPlace("policy_test", "Run the policy tests."),
    "diff": CommandPlace(
        "policy_diff",
        "Tell who gains and who loses access to what, by asking the real decision on both sides.",
    ),
    "replay": CommandPlace(
        "policy_replay",
        "Judge recorded decisions by another configuration, and show what it would change.",
    ),
    "why": CommandPlace(
        "why",
        "Tell why a call was refused: the rule with file and line, what came nearest to"
        " allowing it, and the smallest change.",
    ),
    "users": CommandPlace("users", "Accounts."),
    "roles": CommandPlace("roles", "Roles; a change holds on the next request."),
    "tenants": CommandPlace("attributes", "Tenants; accounts have a role in each."),
    "sessions": CommandPlace("sessions", "Sessions: one for each sign-in."),
    "clients": CommandPlace(
        "clients", "Machine clients (OAuth 2.0 client credentials) and API keys."
    ),
    "revoke": CommandPlace("revoke", "Refuse what has been given out, at once."),
    "keys": CommandPlace("keys", "Signing keys: what signs and verifies tokens."),
    "passwords": CommandPlace(
        "passwords", "Passwords that are known to the world, and are refused."
    ),
    "issuers": CommandPlace("issuers", "Other issuers, whose tokens the configuration takes."),
    "providers": CommandPlace(
        "providers", "Providers, by which people sign in besides the gateway itself."
    ),
    "config": CommandPlace("config_migrate", "The files of the configuration."),
    "db": CommandPlace("db", "The SQL store: its schema and its data."),
    "audit": CommandPlace("audit", "The audit log."),
    "doctor": CommandPlace("doctor", "Check the installation."),
    "export": CommandPlace("export", "Write what ships with the package."),
    "version": CommandPlace("version", "Print the version of authgate and of Python."),
}


def build(command: str | None = None) -> typer.Typer:
    """The application with the module of `command`, or with all of them."""
    app = _application()
    if command in ("dev", "serve"):
        import_lean()
    wanted = [COMMANDS[command]] if command in COMMANDS else COMMANDS.values()
    for module in dict.fromkeys(place.module for place in wanted):
        importlib.import_module(f"gateway.cli.{module}").register(app)
    give_env_file(app)
    return app


def overview() -> typer.Typer:
    """The application as far as its help page shows it, and as far as a command that there is
    none of is told from those that there are."""
    app = _application()
    for name, place in COMMANDS.items():
        app.command(name, help=place.summary)(_root)
    return app


def _application() -> typer.Typer:
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
    return app


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; its exit code (docs/commands.md).  Never a traceback."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    forget_env_file()
    command = next((word for word in words if not word.startswith("-")), None)
    try:
        # Imports leave little to collect, and to look for it takes a tenth of their time.
        gc.disable()
        try:
            app = build(command) if command in COMMANDS else overview()
        finally:
            if arguments is None:
                # This process is the command: what it has imported stays, and no collection
                # walks it again.
                gc.freeze()
            gc.enable()
        result = app(words, prog_name="gateway", standalone_mode=False)
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
