-- KEYS: one for each counter.  ARGV: the mark of an attempt that was no failure.
for _, key in ipairs(KEYS) do
  redis.call('ZREM', key, 'p' .. ARGV[1])
end
return '0'
