-- ARGV: epoch, the names of what has happened now.
for i = 2, #ARGV do
  last = last + 1
  redis.call('ZADD', key, string.format('%.0f', last), ARGV[i])
end
local over = redis.call('ZCARD', key) - 1 - MOST
if over > 0 then
  forgotten = redis.call('ZRANGE', key, over, over, 'WITHSCORES')[2]
  redis.call('ZREMRANGEBYRANK', key, 0, over)
  redis.call('ZADD', key, forgotten, 'epoch:' .. epoch)
end
return string.format('%.0f', last)
