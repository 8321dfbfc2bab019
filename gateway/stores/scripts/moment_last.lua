-- ARGV: epoch, names.  Gives the incarnation, the last place, the one up to which names were forgotten, and
-- the last of one of these names (0: of none).
local found = 0
for i = 2, #ARGV do
  found = math.max(found, tonumber(redis.call('ZSCORE', key, ARGV[i]) or 0))
end
return incarnation() .. string.format(' %.0f %.0f %.0f', last, forgotten, found)
