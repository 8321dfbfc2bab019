-- KEYS: since when it is known what has happened.  Gives the time, in microseconds.
local time = redis.call('TIME')
local now = string.format('%.0f', tonumber(time[1]) * 1000000 + tonumber(time[2]))
local since = tonumber(redis.call('GET', KEYS[1]))
-- A clock that was ahead would refuse every sign-in until it is that late.
if since == nil or since > tonumber(now) then
  redis.call('SET', KEYS[1], now)
end
return now
