"""`gateway dev` and `gateway serve`."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from gateway.app import quickstart
from gateway.app import server as processes
from gateway.app.allocator import share_one_heap
from gateway.app.bootstrap import BootstrapContext
from gateway.app.data_dir import DataFolder, FolderError
from gateway.app.gateway_process import GatewayProcess, Listeners
from gateway.app.log_setup import configure
from gateway.app.setting_types import Address, parse_address
from gateway.app.settings import Settings, sqlite_url
from gateway.app.start_report import start_table
from gateway.app.worker import App
from gateway.cli.configuration_files import CONFIG, POLICIES, ConfigPath, PoliciesPath
from gateway.cli.environment import serving_secrets, serving_settings, settings_source
from gateway.cli.output import CliError, ExitCode, echo, warn
from gateway.config.files import Files
from gateway.config.watcher import ConfigWatcher, InvalidConfiguration, LastKnownGood
from gateway.edge.server.listener_tls import CertificateWrong
from gateway.identity.keys.signing_keys import WrongSecret
from gateway.identity.mail.templates import InvalidMail
from gateway.stores.embedded import ServerMissing
from gateway.stores.migrations import SchemaProblem
from gateway.stores.open_database import sqlite_path
from gateway.stores.protocols import StoreUnavailable

DEMO = "127.0.0.1:9000"

Listen = Annotated[
    str | None, typer.Option("--listen", metavar="HOST:PORT", help="Overrides GATEWAY_LISTEN.")
]
AdminListen = Annotated[
    str | None,
    typer.Option("--admin-listen", metavar="HOST:PORT", help="Overrides GATEWAY_ADMIN_LISTEN."),
]


def register(app: typer.Typer) -> None:
    app.command("dev")(dev)
    app.command("serve")(serve)


def dev(
    config: ConfigPath = CONFIG,
    policies: PoliciesPath = POLICIES,
    listen: Listen = None,
    admin_listen: AdminListen = None,
    demo_listen: Annotated[
        str, typer.Option("--demo-listen", metavar="HOST:PORT", help="Of the demo backend.")
    ] = DEMO,
) -> None:
    """Serve on loopback with embedded stores and a demo backend, and print lines to try."""
    settings = _settings(dev=True, listen=listen, admin_listen=admin_listen)
    try:
        demo = parse_address(demo_listen)
    except ValueError as wrong:
        raise CliError(f"--demo-listen: {demo_listen} {wrong}", ExitCode.USAGE) from wrong
    if not demo.loopback:
        raise CliError("--demo-listen: the demo backend serves loopback only", ExitCode.USAGE)
    warn("starting …")
    _run(settings, Files(config, policies), demo)


def serve(
    config: ConfigPath = CONFIG,
    policies: PoliciesPath = POLICIES,
    workers: Annotated[
        str | None, typer.Option("--workers", metavar="N", help="A number, or auto: one a core.")
    ] = None,
    listen: Listen = None,
    admin_listen: AdminListen = None,
    shadow: Annotated[
        Path | None,
        typer.Option(
            "--shadow",
            metavar="DIR",
            help="A configuration that judges beside the traffic and enforces nothing.",
        ),
    ] = None,
) -> None:
    """Serve."""
    settings = _settings(dev=False, workers=workers, listen=listen, admin_listen=admin_listen)
    beside = None
    if shadow is not None:
        beside = Files(shadow / config.name, shadow / policies.name)
    _run(settings, Files(config, policies), None, beside)


def _settings(*, dev: bool, **overrides: str | None) -> Settings:
    chosen = serving_settings(dev=dev, **overrides)
    _refuse_forgotten_database(chosen)
    return chosen


def _refuse_forgotten_database(chosen: Settings) -> None:
    """The file of an installation that names no database was once `.gateway/gateway.db` of the
    folder of the start, wherever GATEWAY_DATA_DIR was: it must not be lost sight of."""
    before = Path(".gateway/gateway.db")
    at = sqlite_url(chosen.data_dir)
    # Of `os`, which answers no where it may not look: what keeps us out is told by who goes in.
    if chosen.database_url != at or os.path.exists(sqlite_path(at)) or not os.path.isfile(before):
        return
    raise CliError(
        f"GATEWAY_DATABASE_URL is not set, and {sqlite_path(at)} does not exist, but"
        f" {before.absolute()} does: move it there (with its -wal, while no gateway runs), or"
        f" set GATEWAY_DATABASE_URL=sqlite:///{before.absolute()}",
        ExitCode.USAGE,
    )


def _run(
    settings: Settings, files: Files, demo: Address | None, shadow: Files | None = None
) -> None:
    dev = demo is not None
    configure(settings.log_level)
    folder = DataFolder(settings.data_dir)
    secrets = serving_secrets()

    def watcher(watched: Files, kept: Path) -> ConfigWatcher:
        return ConfigWatcher(
            watched, LastKnownGood(kept), settings.own_paths, secrets, settings.token_issuer
        )

    plan = BootstrapContext(
        settings=settings, folder=folder, configuration=watcher(files, folder.last_good)
    )
    if shadow is not None:
        plan.shadow = watcher(shadow, folder.path / "last-good-shadow")
    listeners = Listeners(settings.listen, settings.admin_listen, demo, settings.ext_authz_listen)
    process = GatewayProcess(plan, listeners, welcome=_welcome if dev else None)
    try:
        _prepare(process)
    except (
        CertificateWrong,
        FolderError,
        processes.FolderInUse,
        processes.PortTaken,
        ServerMissing,
        ValueError,
    ) as refused:
        raise CliError(str(refused), ExitCode.USAGE) from refused
    except (InvalidMail, SchemaProblem, WrongSecret) as refused:
        raise CliError(str(refused)) from refused
    except StoreUnavailable as away:
        raise CliError(f"{away.store}: {away.detail}", ExitCode.UNREACHABLE) from away
    except OSError as error:
        # A disk that is full, or a folder that may not be written to: whoever starts us again
        # finds it mended, or is told the same.
        what = f"{error.filename}: " if error.filename else ""
        raise CliError(
            f"{what}{error.strerror} (the data folder is {folder.path})", ExitCode.UNREACHABLE
        ) from error
    except InvalidConfiguration as wrong:
        for problem in wrong.problems:
            sys.stderr.write(f"{problem}\n")
        raise CliError("the configuration is wrong, so nothing was started") from wrong
    _print_start(start_table(process, settings_source()))
    processes.run(process)


def _prepare(process: GatewayProcess) -> None:
    """Everything that can refuse a start, in the order in which it is told."""
    share_one_heap()  # what follows begins threads
    plan, listeners = process.plan, process.listeners
    processes.lock_data_dir(plan)
    try:
        process.begin_stores()
        plan.configuration.load()
        if plan.shadow is not None:
            plan.shadow.load()
        if listeners.demo is not None:
            _tell_demo_elsewhere(plan.configuration, listeners.demo)
        processes.find_ports_free(listeners)
        process.open_stores()
    except BaseException:
        process.stop_stores()
        raise


def _print_start(rows: list[tuple[str, str]]) -> None:
    """On standard output, as the log is on the other; where nobody reads it, it is lost."""
    with suppress(OSError, ValueError):
        echo(f"authgate {version('authgate')}", style="bold")
        for name, value in rows:
            echo(f"  {name:<14} {value}", bold_until=2 + len(name))


def _tell_demo_elsewhere(configuration: ConfigWatcher, demo: Address) -> None:
    """With `--demo-listen` alone, the printed lines that call the backend would be 502."""
    upstreams = configuration.snapshot.upstreams.values()
    if not any((t.host, t.port) == (demo.host, demo.port) for u in upstreams for t in u.targets):
        warn(
            f"no upstream of the routes file has the target http://{demo}: calls will not reach"
            " the demo backend until one has",
            style="yellow",
        )


def _welcome(app: App, demo: quickstart.DemoUser) -> None:
    """Printed by the first worker, once it can decide."""
    settings = app.components.plan.settings
    guest = None
    if settings.registration == "open" and settings.email_verification == "off":
        guest = quickstart.DemoUser.new(*settings.registration_domains[:1])
    sys.stdout.write(
        quickstart.text(
            settings.public_url,
            f"http://{settings.admin_listen}",
            app.components.plan.folder.admin_token(),
            demo,
            guest,
            own_paths=settings.own_paths,
        )
        + "\n"
    )
    sys.stdout.flush()
