-- KEYS: the failures of each counter.  The newest of each is none.
for _, failures in ipairs(KEYS) do
  redis.call('ZPOPMAX', failures)
end
return '0'
