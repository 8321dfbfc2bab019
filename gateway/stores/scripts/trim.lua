-- ARGV: epoch, the age in seconds past which entries go.
local oldest = tonumber(redis.call('TIME')[1]) - tonumber(ARGV[2])
for _ = 1, 100 do
  local entries = redis.call('XRANGE', stream_key, '-', '+', 'COUNT', 100)
  local last
  for _, entry in ipairs(entries) do
    if tonumber(entry[2][4]) >= oldest then break end
    last = entry[1]
  end
  if not last then break end
  local kept = tonumber(string.match(last, '^%d+')) + 1
  redis.call('XTRIM', stream_key, 'MINID', string.format('%d-0', kept))
  if last ~= entries[#entries][1] then break end
end
return view({})
