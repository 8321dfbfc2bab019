-- ARGV: epoch, worker, beat, position, keys position, entries at most.
local held = redis.call('HGET', leases_key, ARGV[2])
if not held then
  return 'gone'
end
local position, beat = tonumber(ARGV[4]), ARGV[3]
local behind = position >= 0 and position < seq
if behind then
  -- Such a renewal holds for nobody: a worker that still sends, but no longer hears, must not
  -- be waited for longer than its last good one lasts.
  beat = string.match(held, '^%d+')
end
redis.call('HSET', leases_key, ARGV[2], beat .. ' ' .. ARGV[4] .. ' ' .. ARGV[5])
local entries = {}
if behind then
  entries = redis.call('XRANGE', stream_key, '(' .. ARGV[4] .. '-0', '+', 'COUNT', ARGV[6])
end
return view(entries)
