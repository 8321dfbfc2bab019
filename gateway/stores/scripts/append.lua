-- ARGV: epoch, the changes.
local time = redis.call('TIME')
for i = 2, #ARGV do
  -- Entries are numbered without gaps by us: who misses one sees that it is missing.
  local id = string.format('%d-0', seq + 1)
  local added = redis.pcall('XADD', stream_key, id, 'change', ARGV[i], 'at', time[1])
  if type(added) == 'table' and added.err then
    if ARGV[1] == '' then
      return 'none'
    end
    -- The stream is ahead of its count: not the one this count belongs to.
    begin()
    redis.call('XADD', stream_key, '1-0', 'change', ARGV[i], 'at', time[1])
  end
  seq = seq + 1
end
redis.call('HSET', state_key, 'seq', string.format('%d', seq))
return view({})
