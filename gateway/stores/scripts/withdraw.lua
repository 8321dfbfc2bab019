-- ARGV: epoch, worker, and the heartbeat that it must still have, or `any`.
local lease = redis.call('HGET', leases_key, ARGV[2])
if lease and (ARGV[3] == 'any' or string.match(lease, '^%d+') == ARGV[3]) then
  redis.call('HDEL', leases_key, ARGV[2])
end
return view({})
