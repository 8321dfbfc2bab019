-- KEYS: what has happened.  ARGV: the seconds for which it is kept.  Notes when, in microseconds.
local time = redis.call('TIME')
local now = string.format('%.0f', tonumber(time[1]) * 1000000 + tonumber(time[2]))
redis.call('SET', KEYS[1], now, 'EX', ARGV[1])
return now
