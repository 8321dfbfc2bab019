-- Limits.  ARGV: among how many workers what is taken ahead is shared, and as JSON the groups of
-- [key, interval, burst, least, most, owed].  Answers for each group its grants, `units:left`
-- with commas between, or `!` and the seconds to wait; semicolons between the groups.
--
-- Times are microseconds since 2025-01-01: small enough that a double resolves 0.01 us, which
-- an interval of 10 us (100,000 a second) needs to stay exact to a thousandth.
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
    -- Nothing honest is owed for so long: the clock was set back, and what was counted by the
    -- other time says nothing of this one.
    if at > now + 3 * burst * interval then at = now end
    -- What was spent unasked is paid back also where the bucket is empty; all shares of all
    -- workers are one burst, so nothing honest owes more.
    at = math.min(at + owed * interval, now + 2 * burst * interval)
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
