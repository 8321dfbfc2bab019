"""Where a command takes its settings from.

The environment comes first, and then one file: that of `--env-file`; else `.env` of this
folder; else, where neither the environment nor `.env` names any setting, the file of the
service that is installed on this machine.  Two installations are never mixed: the service's
file is not read beside settings that come from elsewhere.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from gateway.access.routing.own_paths import OwnPaths
from gateway.app import settings as settings_of
from gateway.app.env_file import PREFIX, named_in
from gateway.app.settings import Settings, SettingsError
from gateway.app.upstream_secrets import load_secrets
from gateway.cli.env_file_option import chosen_env_file
from gateway.cli.output import CliError, ExitCode, warn
from gateway.config.secrets import SecretFiles

INSTALLED = "/etc/authgate/env"
"""As `deploy/authgate.service` names it."""
SERVICE_FILE = Path(INSTALLED)


def settings(**overrides: Any) -> Settings:
    """The settings of a command; CliError (exit 2) with every problem."""
    return _loaded(_file(service=True), **overrides)


def own_paths() -> OwnPaths:
    """The paths that the gateway of these settings answers itself."""
    return configuration_settings().own_paths


def configuration_settings() -> Settings:
    """The settings that say what a configuration means, for a command that reads one and no
    installation: all others are left at their defaults.  CliError (exit 2) where one of them
    is wrong."""
    try:
        return settings_of.load_for_configuration(env_file=readable_settings_file())
    except SettingsError as error:
        raise _wrong(error) from error


def secrets() -> SecretFiles:
    """The secrets of this machine that routes may send, for a command that starts nothing."""
    return load_secrets(env_file=readable_settings_file())


def serving_secrets() -> SecretFiles:
    """The same for a gateway that is started."""
    return load_secrets(env_file=_file(service=False))


def readable_settings_file() -> Path:
    """As `_file`, of what may be read, and without a word."""
    chosen = chosen_env_file()
    if chosen is not None:
        return chosen
    named = _names_here() or not _is_there(SERVICE_FILE) or not _may_read(SERVICE_FILE)
    return Path(".env") if named else SERVICE_FILE


def unread_service_file() -> Path | None:
    """The file of the installed service, where it would count and may not be read by this user."""
    if chosen_env_file() is not None or _names_here() or not _is_there(SERVICE_FILE):
        return None
    return None if _may_read(SERVICE_FILE) else SERVICE_FILE


def serving_settings(*, dev: bool, **overrides: Any) -> Settings:
    """The settings of a gateway that is started.  Systemd hands the service's in; whoever
    starts another by hand does not mean that one."""
    return _loaded(_file(service=False), dev=dev, **overrides)


def settings_source() -> str:
    """Where `serving_settings` has read them."""
    file = _file(service=False)
    if file is None or not _is_there(file):
        return "the environment"
    return f"the environment, {file.absolute()}"


def service_not_read() -> str:
    """Why the settings of the installed service were not taken; empty where they were, or where
    there is none."""
    if chosen_env_file() is not None or not _is_there(SERVICE_FILE):
        return ""
    named = _names_here()
    return f"{SERVICE_FILE} was not read, as {named[0]} is set here" if named else ""


def _loaded(file: Path | None, **overrides: Any) -> Settings:
    try:
        return settings_of.load(env_file=file, **overrides)
    except SettingsError as error:
        raise _wrong(error) from error


def _wrong(error: SettingsError) -> CliError:
    return CliError("wrong settings\n  " + str(error).replace("\n", "\n  "), ExitCode.USAGE)


def _file(*, service: bool) -> Path | None:
    chosen = chosen_env_file()
    if chosen is not None:
        if not _is_there(chosen) or not _may_read(chosen):
            raise CliError(f"--env-file: {chosen} is not a file that can be read", ExitCode.USAGE)
        return chosen
    if not service or _names_here() or not _is_there(SERVICE_FILE):
        return Path(".env")
    if not _may_read(SERVICE_FILE):
        raise CliError(
            f"{SERVICE_FILE}, the settings of the installed service, cannot be read by you: run"
            " this as root or as the service's user, or name other settings with --env-file",
            ExitCode.USAGE,
        )
    warn(f"settings: {SERVICE_FILE} (the installed service)")
    return SERVICE_FILE


def _names_here() -> list[str]:
    """The settings that the environment or `.env` names."""
    named = [*os.environ, *named_in(Path(".env"))]
    return [name for name in named if name.startswith(PREFIX)]


def _is_there(path: Path) -> bool:
    try:
        return path.is_file()
    except PermissionError:
        return True


def _may_read(path: Path) -> bool:
    return os.access(path, os.R_OK, effective_ids=True)
