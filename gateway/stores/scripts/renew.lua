-- ARGV: epoch, worker, heartbeat, position, keys position, entries at most.
local lease = redis.call('HGET', leases_key, ARGV[2])
if not lease then
  return 'gone'
end
local position, heartbeat = tonumber(ARGV[4]), ARGV[3]
local behind = position >= 0 and position < seq
if behind then
  -- Such a renewal holds for nobody: a worker that still sends, but no longer hears, must not
  -- be waited for longer than its last good one lasts.
  heartbeat = string.match(lease, '^%d+')
end
redis.call('HSET', leases_key, ARGV[2], heartbeat .. ' ' .. ARGV[4] .. ' ' .. ARGV[5])
local entries = {}
if behind then
  entries = redis.call('XRANGE', stream_key, '(' .. ARGV[4] .. '-0', '+', 'COUNT', ARGV[6])
end
return view(entries)
