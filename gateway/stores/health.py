"""What must be true of the stores for the promises of the gateway to hold.

Each finding says what was found and, where it is not good, what to do.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from gateway.model import Clock
from gateway.stores.migrations import SchemaProblem, status
from gateway.stores.protocols import INCARNATION, ChangeStream, Database, StoreUnavailable
from gateway.stores.redis import RedisStore

SLOW_S = 0.05
MOST_SKEW_S = 2.0
OLDEST_SERVER = (7, 0)
OLDEST_POSTGRES = 130_000


class State(StrEnum):
    GOOD = "good"
    WARNING = "warning"
    BAD = "bad"
    AWAY = "away"
    """It could not be reached."""


@dataclass(frozen=True, slots=True)
class Finding:
    check: str
    state: State
    detail: str


async def sql_findings(database: Database, clock: Clock) -> list[Finding]:
    """Reachable, of the right schema, in step with this machine's clock, and durable."""
    began_at = time.perf_counter()
    try:
        async with database.read_transaction() as tx:
            there = await tx.now()
        took_s = time.perf_counter() - began_at
        findings = [_reached("sql", took_s), _skew(there - clock.now()), await _schema(database)]
        if database.dialect == "postgresql":
            findings += await _postgres(database)
    except StoreUnavailable as error:
        return [Finding("sql", State.AWAY, error.detail or "no answer")]
    return findings


async def redis_findings(redis: RedisStore) -> list[Finding]:
    """Reachable, new enough, forgetting nothing, and with the replicas that it needs."""
    began_at = time.perf_counter()
    try:
        await redis.call("PING")
        took_s = time.perf_counter() - began_at
        info: dict[str, Any] = await redis.call("INFO")
    except StoreUnavailable as error:
        return [Finding("redis", State.AWAY, error.detail or "no answer")]
    findings = [_reached("redis", took_s), _version(info)]
    findings.append(await _eviction(redis))
    findings.append(_persistence(redis, info))
    if redis.replicas:
        findings += await _replication(redis, info)
    return findings


async def redis_clock(redis: RedisStore, clock: Clock) -> Finding:
    """Leases and limits are counted by the clock of Redis."""
    try:
        seconds = await redis.time() - clock.now()
    except StoreUnavailable as error:
        return Finding("redis-clock", State.AWAY, error.detail or "no answer")
    if abs(seconds) > MOST_SKEW_S:
        detail = f"{seconds:+.1f} s off this machine's: keep both in step (NTP)"
        return Finding("redis-clock", State.WARNING, detail)
    return Finding("redis-clock", State.GOOD, "in step with this machine's")


async def stream_finding(database: Database, stream: ChangeStream) -> Finding:
    """Whether this Redis is the one whose stream the workers follow, as far as SQL knows."""
    try:
        async with database.read_transaction() as tx:
            row = await tx.one(
                "SELECT value FROM installation WHERE name = :name", name=INCARNATION
            )
        if row is None:
            return Finding("stream", State.GOOD, "no gateway has started yet")
        view = await stream.peek()
    except StoreUnavailable as error:
        return Finding("stream", State.AWAY, error.detail or "no answer")
    known = str(row["value"])
    if view is not None and view.incarnation == known:
        return Finding("stream", State.GOOD, "the one that SQL knows")
    if view is not None and view.incarnation.partition(".")[0] == known.partition(".")[0]:
        detail = (
            "this Redis was restarted or replaced, and no gateway has followed it since for five"
            " seconds: until then commands that revoke end with 3"
        )
        return Finding("stream", State.WARNING, detail)
    detail = (
        "this Redis holds no revocations"
        if view is None
        else "this Redis is another installation's"
    )
    detail += (
        ", or was emptied in the last seconds: GATEWAY_REDIS_URL is not that of the running"
        " gateways; commands that revoke tell nobody and end with 3"
    )
    return Finding("stream", State.BAD, detail)


def worst(findings: Sequence[Finding]) -> State:
    order = [State.GOOD, State.WARNING, State.AWAY, State.BAD]
    return max((finding.state for finding in findings), key=order.index, default=State.GOOD)


def _reached(store: str, took_s: float) -> Finding:
    slow = took_s > SLOW_S
    detail = f"answers in {took_s * 1000:.1f} ms"
    if slow:
        detail += ": every sign-in and sign-out waits for it several times"
    return Finding(store, State.WARNING if slow else State.GOOD, detail)


def _skew(seconds: float) -> Finding:
    if abs(seconds) > MOST_SKEW_S:
        detail = (
            f"the SQL store's clock is {seconds:+.1f} s off this machine's: tokens from the future"
            " by more than 5 s are refused; keep both in step (NTP)"
        )
        return Finding("clock", State.BAD if abs(seconds) > 5 else State.WARNING, detail)
    return Finding("clock", State.GOOD, "in step with the SQL store's")


async def _schema(database: Database) -> Finding:
    try:
        schema = await status(database)
    except SchemaProblem as error:
        return Finding("schema", State.BAD, str(error))
    if schema.pending:
        return Finding(
            "schema", State.BAD, "run `gateway db upgrade`: " + ", ".join(schema.pending)
        )
    if schema.ahead:
        detail = f"a newer version has run {', '.join(schema.ahead)}: upgrade this node too"
        return Finding("schema", State.WARNING, detail)
    return Finding("schema", State.GOOD, "current")


async def _postgres(database: Database) -> list[Finding]:
    async with database.read_transaction() as tx:
        rows = await tx.all(
            "SELECT name, setting FROM pg_settings WHERE name IN ('server_version_num', 'fsync',"
            " 'synchronous_commit', 'transaction_read_only', 'max_connections')"
        )
        replica = await tx.one("SELECT pg_is_in_recovery() AS replica")
    value = {str(row["name"]): str(row["setting"]) for row in rows}
    findings = []
    version = int(value["server_version_num"])
    if version < OLDEST_POSTGRES:
        findings.append(Finding("postgresql", State.BAD, "PostgreSQL 13 or newer is needed"))
    if replica and replica["replica"]:
        findings.append(
            Finding("postgresql", State.BAD, "this is a replica: name the primary in the URL")
        )
    off = [name for name in ("fsync", "synchronous_commit") if value[name] == "off"]
    if off:
        findings.append(
            Finding(
                "durability",
                State.BAD,
                f"{' and '.join(off)} off: a crash takes back sign-outs that were answered 204",
            )
        )
    if not findings:
        findings.append(
            Finding("postgresql", State.GOOD, f"{version // 10_000}.{version % 10_000}, durable")
        )
    return findings


def _version(info: dict[str, Any]) -> Finding:
    text = str(info.get("valkey_version") or info.get("redis_version") or "")
    numbers = tuple(int(n) for n in re.findall(r"\d+", text)[:2])
    name = "Valkey" if "valkey_version" in info else "Redis"
    if numbers < OLDEST_SERVER:
        return Finding(
            "server", State.BAD, f"{name} {text}: Redis 7, Valkey 7.2 or newer is needed"
        )
    return Finding("server", State.GOOD, f"{name} {text}")


async def _eviction(redis: RedisStore) -> Finding:
    policy = await _setting(redis, "maxmemory-policy")
    if policy is None:
        return Finding(
            "eviction", State.WARNING, "CONFIG GET is refused: see to it that it is noeviction"
        )
    if policy != "noeviction":
        detail = f"maxmemory-policy is {policy}: set noeviction, or leases and sessions vanish"
        return Finding("eviction", State.BAD, detail)
    return Finding("eviction", State.GOOD, "noeviction")


def _persistence(redis: RedisStore, info: dict[str, Any]) -> Finding:
    if int(info.get("aof_enabled", 0)):
        return Finding("persistence", State.GOOD, "append-only file")
    if redis.replicas:
        return Finding("persistence", State.GOOD, "replicas")
    detail = (
        "no append-only file: after a restart cookie sessions and throttle counters are gone"
        " (revocations are not: SQL has them)"
    )
    return Finding("persistence", State.WARNING, detail)


async def _replication(redis: RedisStore, info: dict[str, Any]) -> list[Finding]:
    connected = int(info.get("connected_slaves", 0))
    findings = []
    if connected < redis.replicas:
        detail = (
            f"{connected} of the {redis.replicas} replicas that a write must reach are connected:"
            " sign-outs answer 503 until they are"
        )
        findings.append(Finding("replicas", State.BAD, detail))
    elif 2 * redis.replicas <= connected:
        detail = (
            f"{connected} replicas, of which {redis.replicas} must have a write: in a partition an"
            f" old master may keep so many; ask for replicas={connected // 2 + 1} in the URL"
        )
        findings.append(Finding("replicas", State.WARNING, detail))
    else:
        findings.append(Finding("replicas", State.GOOD, f"{connected} connected"))
    least = await _setting(redis, "min-replicas-to-write")
    if least is None or not least.isdigit() or int(least) < redis.replicas:
        detail = (
            f"set min-replicas-to-write {redis.replicas}, so that an old master that was cut off"
            " takes no writes"
        )
        state = State.WARNING if least is None else State.BAD
        findings.append(Finding("min-replicas-to-write", state, detail))
    else:
        findings.append(Finding("min-replicas-to-write", State.GOOD, least))
    return findings


async def _setting(redis: RedisStore, name: str) -> str | None:
    try:
        answer = await redis.call("CONFIG", "GET", name)
    except StoreUnavailable:
        return None
    if isinstance(answer, dict):
        return str(answer[name]) if name in answer else None
    return str(answer[1]) if answer else None
