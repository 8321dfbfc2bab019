-- KEYS: what may be used once.  ARGV: the mark of this call, the seconds for which it is kept.
-- A call that is tried again finds its own mark, and is first still.
if redis.call('SET', KEYS[1], ARGV[1], 'NX', 'EX', ARGV[2]) then
  return 1
end
return redis.call('GET', KEYS[1]) == ARGV[1] and 1 or 0
