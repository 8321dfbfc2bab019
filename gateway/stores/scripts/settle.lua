-- KEYS: one for each counter.  ARGV: the mark of an attempt, `f` where it failed and `s` where it
-- is spent, then for each counter its limit, its window in seconds and its limit an hour.
-- It counts from now on, after what it paid for: see reserve.lua.
local time = redis.call('TIME')
local now = string.format('%.6f', tonumber(time[1]) + tonumber(time[2]) / 1e6)
for i, key in ipairs(KEYS) do
  local limit, window, an_hour = tonumber(ARGV[3 * i]), tonumber(ARGV[3 * i + 1]), tonumber(ARGV[3 * i + 2])
  redis.call('ZREM', key, 'p' .. ARGV[1])
  redis.call('ZADD', key, now, ARGV[2] .. ARGV[1])
  local long = an_hour > 0 and redis.call('ZCARD', key) >= limit
  redis.call('PEXPIRE', key, (long and 3600 or window) * 1000 + 1)
end
return '0'
