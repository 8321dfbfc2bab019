-- ARGV: epoch, worker, beat, position, keys position, entries at most.
if redis.call('HEXISTS', leases_key, ARGV[2]) == 0 then
  return 'gone'
end
redis.call('HSET', leases_key, ARGV[2], ARGV[3] .. ' ' .. ARGV[4] .. ' ' .. ARGV[5])
local entries = {}
if tonumber(ARGV[4]) >= 0 and tonumber(ARGV[4]) < seq then
  entries = redis.call('XRANGE', stream_key, '(' .. ARGV[4] .. '-0', '+', 'COUNT', ARGV[6])
end
return view(entries)
