-- ARGV: epoch, worker, and the beat that it must still have, or `any`.
local held = redis.call('HGET', leases_key, ARGV[2])
if held and (ARGV[3] == 'any' or string.match(held, '^%d+') == ARGV[3]) then
  redis.call('HDEL', leases_key, ARGV[2])
end
return view({})
