-- KEYS: what was delivered.  ARGV: the mark of this delivery, what is done with it, seconds.
-- A call that is tried again finds its own mark, and is answered as before.
local held = redis.call('GET', KEYS[1])
if ARGV[2] == 'begin' then
  if held == ARGV[1] then return 'first' end
  if held then return held == 'done' and 'done' or 'under-way' end
  redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[3])
  return 'first'
end
if ARGV[2] == 'finish' then
  redis.call('SET', KEYS[1], 'done', 'EX', ARGV[3])
elseif held == ARGV[1] then
  redis.call('DEL', KEYS[1])
end
return 'ok'
