-- KEYS: the failures of one counter.  ARGV: its window in seconds.  How many it holds now.
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1e6
return redis.call('ZCOUNT', KEYS[1], string.format('(%.6f', now - tonumber(ARGV[1])), '+inf')
