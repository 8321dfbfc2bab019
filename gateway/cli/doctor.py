"""`gateway doctor`: whether the installation can keep its promises."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from pathlib import Path

import typer

from gateway.access.snapshot import Snapshot
from gateway.app.data_dir import DataFolder, FolderError
from gateway.app.settings import Settings
from gateway.app.shared_settings import differences, shared
from gateway.cli.config_migrate import outdated_words
from gateway.cli.configuration_files import CONFIG, POLICIES, ConfigPath, PoliciesPath
from gateway.cli.configurations import read
from gateway.cli.context import existing_database, redis_url
from gateway.cli.doctor_checks import ext_authz, machine_findings, signing_key, sql_connections
from gateway.cli.doctor_upstreams import upstreams
from gateway.cli.environment import settings
from gateway.cli.output import AsJson, CliError, ExitCode, table
from gateway.config.warnings import open_to_anybody
from gateway.identity.accounts.registration_rules import RegistrationRules
from gateway.model import Clock, ConfigProblem, SystemClock
from gateway.stores.health import (
    Finding,
    State,
    redis_clock,
    redis_findings,
    sql_findings,
    stream_finding,
    worst,
)
from gateway.stores.protocols import Database
from gateway.stores.redis import RedisStore, open_redis
from gateway.stores.stream import RedisChangeStream


def register(app: typer.Typer) -> None:
    doctor = typer.Typer(help="Check the installation.", invoke_without_command=True)
    doctor.callback()(examine)
    doctor.command("upstreams")(upstreams)
    app.add_typer(doctor, name="doctor")


def examine(
    context: typer.Context,
    config: ConfigPath = CONFIG,
    policies: PoliciesPath = POLICIES,
    as_json: AsJson = False,
) -> None:
    """Check the stores, clocks, limits, permissions, certificate, keys, proxies, mail, the
    configuration and who may register; exit 1 when something is bad, 3 when a store is away."""
    if context.invoked_subcommand is not None:
        return
    chosen = settings()
    # A machine that has the stores alone has no configuration.
    configuration = read(config, policies) if config.exists() else None
    findings = [
        *asyncio.run(_stores(chosen)),
        *machine_findings(chosen, SystemClock().now()),
        *_configuration_findings(configuration),
        *_words_findings(configuration, config, policies),
        _registration_finding(chosen.registration_rules, configuration),
        ext_authz(chosen, configuration if isinstance(configuration, Snapshot) else None),
    ]
    table([asdict(finding) for finding in findings], ["check", "state", "detail"], as_json=as_json)
    match worst(findings):
        case State.BAD:
            raise CliError("the installation cannot keep its promises as it is", ExitCode.NO)
        case State.AWAY:
            raise CliError("a store could not be reached", ExitCode.UNREACHABLE)
        case _:
            return


async def _stores(chosen: Settings) -> list[Finding]:
    clock = SystemClock()
    url = redis_url(chosen, DataFolder(chosen.data_dir))
    redis = None if url is None else open_redis(url, durable=chosen.embedded_redis)
    try:
        return await _findings(chosen, clock, redis)
    finally:
        if redis is not None:
            await redis.close()


async def _findings(chosen: Settings, clock: Clock, redis: RedisStore | None) -> list[Finding]:
    if redis is None:
        found = [Finding("redis", State.GOOD, "embedded, at rest: no gateway runs")]
    else:
        found = await redis_findings(redis)
        if worst(found) is not State.AWAY:
            found.append(await redis_clock(redis, clock))
    try:
        database = existing_database(chosen, clock)
    except CliError as missing:
        return [Finding("sql", State.AWAY, missing.text), *found]
    try:
        of_sql = await sql_findings(database, clock)
        if redis is not None and worst(of_sql) in (State.GOOD, State.WARNING):
            stream = RedisChangeStream(redis, begins=False)
            found.append(await stream_finding(database, stream))
        if worst(of_sql) is not State.AWAY:
            of_sql.append(await _settings_finding(chosen, database))
        if worst(of_sql) in (State.GOOD, State.WARNING):
            of_sql.append(await signing_key(database, chosen, clock.now()))
            sessions = await sql_connections(database, chosen.workers)
            of_sql += [] if sessions is None else [sessions]
        return [*of_sql, *found]
    finally:
        await database.close()


def _configuration_findings(found: Snapshot | list[ConfigProblem] | None) -> list[Finding]:
    """Whether a gateway that is started here would take the files, by these settings."""
    if found is None:
        return []
    if isinstance(found, Snapshot):
        return [Finding("configuration", State.GOOD, f"version {found.version}")]
    more = f" (and {len(found) - 1} more: `gateway validate`)" if len(found) > 1 else ""
    return [Finding("configuration", State.BAD, f"{found[0]}{more}")]


def _words_findings(
    found: Snapshot | list[ConfigProblem] | None, config: Path, policies: Path
) -> list[Finding]:
    """What is left of another version in the files."""
    words = outdated_words(config, policies) if isinstance(found, list) else []
    if not words:
        return []
    more = f", and {len(words) - 1} more" if len(words) > 1 else ""
    return [Finding("words", State.BAD, f"{words[0]}{more}: `gateway config migrate`")]


def _registration_finding(
    rules: RegistrationRules, found: Snapshot | list[ConfigProblem] | None
) -> Finding:
    """Who may make an account, and whether a route takes every account for that alone."""
    if not rules.anybody:
        return Finding("registration", State.GOOD, rules.mode)
    notices = open_to_anybody(found.routes, rules.anybody) if isinstance(found, Snapshot) else []
    if not notices:
        detail = f"{rules.mode}: {rules.anybody} may make an account"
        return Finding("registration", State.GOOD, detail)
    return Finding("registration", State.WARNING, str(notices[0]))


async def _settings_finding(chosen: Settings, database: Database) -> Finding:
    """Whether what every node must have in common is what the nodes run with."""
    try:
        secret = chosen.key_secret_bytes() or DataFolder(chosen.data_dir).key_secret(make=False)
    except FolderError as error:
        return Finding("settings", State.WARNING, str(error))
    found = await differences(database, shared(chosen, secret))
    if found:
        detail = "not those that the nodes run with: " + "; ".join(found)
        return Finding("settings", State.BAD, detail)
    return Finding("settings", State.GOOD, "those that the nodes run with")
