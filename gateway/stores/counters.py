"""GCRA buckets in Redis, which all workers of all nodes share.

A bucket is one number, the theoretical arrival time: the moment at which it is full again.
Only the server's clock is read (the script runs where the number lives), so no two clocks
are ever compared.  One script call judges all that one loop turn asks.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Sequence
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import NoScriptError, RedisError

from gateway.stores.protocols import Grant, Spend, StoreUnavailable
from gateway.stores.redis import PREFIX

# Times are microseconds since 2025-01-01: small enough that a double resolves 0.01 µs, which
# an interval of 10 µs (100,000 a second) needs to stay exact to a thousandth.
_SCRIPT = """
local clock = redis.call('TIME')
local now = (tonumber(clock[1]) - 1735689600) * 1000000 + tonumber(clock[2])
local sharers = tonumber(ARGV[1])
local answers = {}
local function keep(key, full_at)
  if full_at <= now then redis.call('DEL', key)
  else redis.call('SET', key, string.format('%.3f', full_at),
                  'PX', math.ceil((full_at - now) / 1000) + 1) end
end
for g, group in ipairs(cjson.decode(ARGV[2])) do
  local full_at, units, wait = {}, {}, -1
  for i, ask in ipairs(group) do
    local key, interval, burst, least, most, owed = unpack(ask)
    local at = math.max(tonumber(redis.call('GET', key) or now), now)
    at = math.min(at + owed * interval, now + burst * interval)
    if owed ~= 0 then keep(key, at) end
    local room = math.floor(burst - math.max(at - now, 0) / interval + 0.000001)
    if room < least then
      wait = math.max(wait, at - now - (burst - least) * interval)
    else
      units[i] = least
      if most > least then
        units[i] = least + math.min(most - least, math.floor((room - least) / sharers))
      end
    end
    full_at[i] = at
  end
  local parts = {}
  if wait >= 0 then
    parts[1] = string.format('!%.6f', wait / 1000000)
  else
    for i, ask in ipairs(group) do
      local interval, burst = ask[2], ask[3]
      local at = math.max(full_at[i], now) + units[i] * interval
      if units[i] > 0 then keep(ask[1], at) end
      local left = math.floor(burst - (at - now) / interval + 0.000001)
      parts[i] = units[i] .. ':' .. math.max(left, 0)
    end
  end
  answers[g] = table.concat(parts, ',')
end
return table.concat(answers, ';')
"""
_DIGEST = hashlib.sha1(_SCRIPT.encode(), usedforsecurity=False).hexdigest()


class RedisCounters:
    """Meets `stores.protocols.Counters`."""

    def __init__(
        self, redis: Redis, *, prefix: str = f"{PREFIX}limit:", timeout_s: float = 0.25
    ) -> None:
        self._redis = redis
        self._prefix = prefix
        self._timeout_s = timeout_s

    async def spend(
        self, groups: Sequence[Sequence[Spend]], sharers: int
    ) -> list[list[Grant] | float]:
        asked = json.dumps(
            [
                [
                    (self._prefix + s.key, s.interval_s * 1e6, s.burst, s.least, s.most, s.owed)
                    for s in group
                ]
                for group in groups
            ]
        )
        try:
            async with asyncio.timeout(self._timeout_s):
                answer = await self._run(max(sharers, 1), asked)
        except (RedisError, OSError, TimeoutError) as error:
            raise StoreUnavailable("redis", "the shared limits") from error
        text = answer.decode() if isinstance(answer, bytes) else str(answer)
        return [_read(part) for part in text.split(";")] if groups else []

    async def _run(self, sharers: int, asked: str) -> Any:
        try:
            return await self._redis.evalsha(_DIGEST, 0, str(sharers), asked)
        except NoScriptError:
            # A server that is new, was restarted or was flushed does not know the script.
            return await self._redis.eval(_SCRIPT, 0, str(sharers), asked)


def _read(part: str) -> list[Grant] | float:
    if part.startswith("!"):
        return float(part[1:])
    grants = []
    for grant in part.split(","):
        units, _, left = grant.partition(":")
        grants.append(Grant(int(units), int(left)))
    return grants
