-- The login throttle.  KEYS: one for each counter.  ARGV: a mark, then for each counter its limit,
-- its window in seconds, 1 where the next attempt waits after a failure, and its limit an hour
-- (0: none).  Answers `wait:failures`: once every counter has room each is charged by one
-- attempt and the wait is 0; else none is.
--
-- A counter is a sorted set: a member is `p` (not settled yet), `s` (spent) or `f` (failed) and
-- the mark of its attempt, its score the moment from which it counts.  What is never settled
-- (a worker was killed) has a score so far back that it leaves the window after PENDING seconds.
local PENDING, HOUR = 120, 3600
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1e6
local wait, failures = 0, 0

local function held_up(key, limit, window)
  local attempt = redis.call('ZRANGE', key, -limit, -limit, 'WITHSCORES')
  if limit == 0 or #attempt == 0 then return end
  local left = tonumber(attempt[2]) + window - now
  if left > 0 then
    -- What is under way is done in a moment, and may have been right.
    wait = math.max(wait, string.sub(attempt[1], 1, 1) == 'p' and 1 or left)
  end
end

local function asked(i)
  local at = 4 * i - 2
  return KEYS[i], tonumber(ARGV[at]), tonumber(ARGV[at + 1]), ARGV[at + 2] == '1', tonumber(ARGV[at + 3])
end

for _, key in ipairs(KEYS) do
  -- A call that is tried again, as its answer was lost: it is not its own competitor.
  redis.call('ZREM', key, 'p' .. ARGV[1])
end
for i = 1, #KEYS do
  local key, limit, window, paced, an_hour = asked(i)
  local longest = an_hour > 0 and HOUR or window
  redis.call('ZREMRANGEBYSCORE', key, '-inf', string.format('%.6f', now - longest))
  if longest > window then
    -- What was never settled is forgotten with its window, and not kept for the hour.
    local before = string.format('%.6f', now - window)
    for _, member in ipairs(redis.call('ZRANGEBYSCORE', key, '-inf', before)) do
      if string.sub(member, 1, 1) == 'p' then redis.call('ZREM', key, member) end
    end
  end
  -- What is yet to come was written before this clock was set back: it counts from now on, and
  -- nobody waits for the difference too.
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', key, string.format('(%.6f', now), '+inf')) do
    local pending = string.sub(member, 1, 1) == 'p'
    local at = pending and now - window + math.min(PENDING, window) or now
    redis.call('ZADD', key, string.format('%.6f', at), member)
  end
  held_up(key, limit, window)
  held_up(key, an_hour, HOUR)
  if paced then
    local entries = redis.call('ZRANGEBYSCORE', key,
      string.format('(%.6f', now - window), '+inf', 'WITHSCORES')
    local failed, last = 0, 0
    for n = 1, #entries, 2 do
      if string.sub(entries[n], 1, 1) == 'f' then
        failed, last = failed + 1, tonumber(entries[n + 1])
      end
    end
    failures = math.max(failures, failed)
    if failed > 0 then wait = math.max(wait, last + 2 ^ (failed - 1) - now) end
  end
end
if wait > 0 then
  return string.format('%.6f:%d', wait, failures)
end
for i = 1, #KEYS do
  local key, limit, window, _, an_hour = asked(i)
  redis.call('ZADD', key, string.format('%.6f', now - window + math.min(PENDING, window)),
    'p' .. ARGV[1])
  -- An hour is remembered only of who has used up a window: a stranger who tries each of a
  -- million accounts once is kept for a quarter of one.
  local long = an_hour > 0 and redis.call('ZCARD', key) >= limit
  redis.call('PEXPIRE', key, (long and HOUR or window) * 1000 + 1)
end
return string.format('0:%d', failures)
