"""Users and sessions of other issuers, as a command names them: `NAME:sub`, `NAME:sid`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from gateway.access.issuers import Issuer
from gateway.cli.configurations import compiled
from gateway.cli.output import CliError, ExitCode, warn
from gateway.identity.issuers.external_ids import EXTERNAL_ID_MAX, is_external_id

_FORM = re.compile(r"([a-z][a-z0-9-]{0,31}):(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class ExternalId:
    """What an issuer of the configuration calls somebody, or a session."""

    issuer: Issuer
    id: str


def external_user(text: str, config: Path, policies: Path) -> ExternalId | None:
    """None for what is no name of another issuer's user.  CliError (exit 2) for an issuer that
    there is not: no address and no id of ours has this form."""
    match = _FORM.fullmatch(text)
    if match is None:
        return None
    issuers = compiled(config, policies).issuers
    if match[1] not in issuers:
        names = ", ".join(f"`{name}`" for name in issuers)
        others = f"; it has {names}" if names else ", nor any other"
        raise CliError(f"{config} has no issuer `{match[1]}`{others}", ExitCode.USAGE)
    return _named(issuers[match[1]], match[2])


def external_session(text: str, config: Path, policies: Path) -> ExternalId | None:
    """None where it can only be a session of our own: a token of an imported key may name one
    with a colon."""
    match = _FORM.fullmatch(text)
    if match is None or not config.exists():
        return None
    issuer = compiled(config, policies).issuers.get(match[1])
    if issuer is None:
        warn(f"{config} has no issuer `{match[1]}`: taken for a session of our own")
        return None
    return _named(issuer, match[2])


def _named(issuer: Issuer, name: str) -> ExternalId:
    if not is_external_id(name):
        raise CliError(
            f"what follows `{issuer.name}:` is 1 to {EXTERNAL_ID_MAX} visible ASCII characters",
            ExitCode.USAGE,
        )
    return ExternalId(issuer, name)
