-- The login throttle.  KEYS: two for each counter, its failures and its waits.  ARGV: for each
-- counter its limit and its window in seconds.  Answers 0 once every counter is charged by
-- one, else the seconds to wait, and charges none.
local LONGEST = 900
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1e6
local counters, wait = {}, 0

for i = 1, #KEYS / 2 do
  local counter = {
    failures = KEYS[2 * i - 1], waits = KEYS[2 * i],
    limit = tonumber(ARGV[2 * i - 1]), window = tonumber(ARGV[2 * i]),
  }
  redis.call('ZREMRANGEBYSCORE', counter.failures, '-inf', string.format('(%.6f', now - counter.window))
  if redis.call('ZCARD', counter.failures) >= counter.limit then
    counter.full = true
    -- Past its limit one attempt is let in after each wait, and the next wait is longer.
    local open_at = tonumber(redis.call('HGET', counter.waits, 'open_at') or '0')
    if open_at == 0 or now < open_at then
      local refused = tonumber(redis.call('HGET', counter.waits, 'refused') or '0')
      local pause = math.min(2 ^ refused, LONGEST)
      redis.call('HSET', counter.waits, 'refused', math.min(refused + 1, 16),
        'open_at', string.format('%.6f', now + pause))
      redis.call('PEXPIRE', counter.waits, math.ceil((pause + counter.window) * 1000))
      wait = math.max(wait, pause)
    end
  end
  counters[i] = counter
end
if wait > 0 then
  return string.format('%.3f', wait)
end
for _, counter in ipairs(counters) do
  redis.call('ZADD', counter.failures, string.format('%.6f', now), time[1] .. '.' .. time[2] .. '.' ..
    redis.call('ZCARD', counter.failures) .. '.' .. ARGV[#ARGV])
  redis.call('PEXPIRE', counter.failures, math.ceil(counter.window * 1000) + 1000)
  if counter.full then
    redis.call('HSET', counter.waits, 'open_at', 0)
  end
end
return '0'
