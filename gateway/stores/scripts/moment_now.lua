-- KEYS: since when it is known what has happened.  Gives the time, in microseconds.
local time = redis.call('TIME')
local now = string.format('%.0f', tonumber(time[1]) * 1000000 + tonumber(time[2]))
redis.call('SET', KEYS[1], now, 'NX')
return now
