"""How commands read a configuration, and what they say of it."""

from __future__ import annotations

import dataclasses
import subprocess
from enum import StrEnum
from pathlib import Path

from gateway.access.snapshot import Snapshot
from gateway.cli import environment
from gateway.cli.environment import configuration_settings
from gateway.cli.output import CliError, ExitCode, warn
from gateway.config.compile import Sources, compile_snapshot
from gateway.config.files import DEFAULT_POLICIES, read_sources
from gateway.config.secrets import SecretSource, UnreadSecrets
from gateway.config.upstream_tls import TlsContexts, tls_of_snapshot
from gateway.config.warnings import open_to_anybody
from gateway.model import ConfigProblem


class FailOn(StrEnum):
    """What makes a comparison exit 1."""

    WIDEN = "widen"
    CHANGE = "change"


def read(
    config: Path,
    policies: Path,
    secrets: SecretSource | None = None,
    *,
    may_lack: Path = DEFAULT_POLICIES,
) -> Snapshot | list[ConfigProblem]:
    """The configuration, or every problem with it; what is hardly meant by the settings beside it
    is among its notices.  Without `secrets` they are taken to be there.

    `may_lack`: see `read_sources`.
    """
    sources = read_sources(config, policies, may_lack=may_lack)
    if isinstance(sources, list):
        return sources
    chosen = configuration_settings()
    found = compile_snapshot(
        sources, chosen.own_paths, secrets or UnreadSecrets(), chosen.token_issuer
    )
    if isinstance(found, list):
        return found
    open_routes = open_to_anybody(found.routes, chosen.registration_rules.anybody)
    return dataclasses.replace(
        found, notices=(*found.notices, *open_routes), public_url=chosen.public_url
    )


def read_for_here(config: Path, policies: Path) -> Snapshot | list[ConfigProblem]:
    """As `read`, and the files that upstreams and issuers name, and the secrets, must do on this
    machine too."""
    found = read(config, policies, environment.secrets())
    if isinstance(found, list):
        return found
    return TlsContexts().problems(tls_of_snapshot(found)) or found


def compiled(config: Path, policies: Path, *, may_lack: Path = DEFAULT_POLICIES) -> Snapshot:
    """The configuration; every problem on standard error and exit 1 where there are any.

    `may_lack`: see `read_sources`.
    """
    return _valid(read(config, policies, may_lack=may_lack))


def compiled_for_here(config: Path, policies: Path) -> Snapshot:
    """As `compiled`, by what `read_for_here` asks of this machine."""
    return _valid(read_for_here(config, policies))


def _valid(found: Snapshot | list[ConfigProblem]) -> Snapshot:
    if isinstance(found, Snapshot):
        return found
    for problem in found:
        warn(str(problem))
    raise CliError("the configuration is not valid")


def compiled_from(where: str, config: Path, policies: Path) -> Snapshot:
    """The configuration of a folder, or of a git revision of the one that is worked on.

    In a folder the files lie where `config` and `policies` lie here, or have their names.
    """
    folder = Path(where)
    if folder.is_dir():
        if not config.is_absolute() and (folder / config).exists():
            config, policies = folder / config, folder / policies
        else:
            config, policies = folder / config.name, folder / policies.name
        return compiled(config, policies, may_lack=folder / DEFAULT_POLICIES)
    chosen = configuration_settings()
    sources = _sources_of_revision(where, config, policies)
    found = compile_snapshot(sources, chosen.own_paths, UnreadSecrets(), chosen.token_issuer)
    if isinstance(found, Snapshot):
        return dataclasses.replace(found, public_url=chosen.public_url)
    for problem in found:
        warn(f"{where}: {problem}")
    raise CliError(f"the configuration of {where} is not valid")


def _sources_of_revision(revision: str, config: Path, policies: Path) -> Sources:
    if config.is_absolute() or policies.is_absolute() or revision.startswith("-"):
        raise CliError(f"{revision} is no folder; with a git revision, name relative paths")
    top = _git(
        "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}",
        otherwise=f"{revision} is neither a folder nor a git revision",
    ).strip()  # fmt: skip
    listed = _git("ls-tree", "-r", "-z", "--name-only", top, "--", str(policies)).split("\0")
    tests = f"{policies}/tests/"
    names = [name for name in listed if name.endswith(".yaml") and not name.startswith(tests)]
    return Sources(
        (str(config), _git("show", f"{top}:./{config}")),
        tuple((name, _git("show", f"{top}:./{name}")) for name in sorted(names)),
        str(policies),
    )


def _git(*words: str, otherwise: str = "") -> str:
    try:
        done = subprocess.run(  # noqa: S603 (no shell, and no word begins with a dash but ours)
            ["git", *words],  # noqa: S607 (the user's own git)
            capture_output=True,
            check=False,
            timeout=60,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CliError(f"git could not be run: {error}", ExitCode.USAGE) from error
    if done.returncode != 0:
        said = done.stderr.decode("utf-8", "replace").strip()
        # git is silent only of a name that it does not know.
        raise CliError(f"git: {said}" if said else otherwise, ExitCode.USAGE)
    return done.stdout.decode("utf-8", "replace")
