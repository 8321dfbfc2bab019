-- Every script on the stream begins so.  ARGV[1] is the epoch to begin with where there is
-- none, empty for who may not begin one (the answer is then `none`); the last of ARGV is the digest of the others: a request that was garbled on its way
-- must not be believed, since a wrong position would be a false promise.
local state_key, stream_key, leases_key = KEYS[1], KEYS[2], KEYS[3]
local sum = table.remove(ARGV)
if redis.sha1hex(table.concat(ARGV, '\n')) ~= sum then
  return redis.error_reply('ERR a garbled request')
end

local epoch, seq

local function begin()
  redis.call('DEL', state_key, stream_key, leases_key)
  redis.call('HSET', state_key, 'epoch', ARGV[1], 'seq', 0)
  epoch, seq = ARGV[1], 0
end

epoch = redis.call('HGET', state_key, 'epoch')
seq = tonumber(redis.call('HGET', state_key, 'seq') or '')
if not epoch or not seq then
  if ARGV[1] == '' then
    return 'none'
  end
  begin()
end

-- What the caller sees: one line for the state, one a lease, one an entry, then their digest.
local function view(entries)
  local run_id = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)') or ''
  local repl_id = string.match(redis.call('INFO', 'replication'), 'master_replid:(%w+)') or ''
  local lines = {'S ' .. epoch .. ' ' .. string.format('%d', seq) .. ' ' .. run_id .. '.' .. repl_id}
  local leases = redis.call('HGETALL', leases_key)
  for i = 1, #leases, 2 do
    lines[#lines + 1] = 'L ' .. leases[i] .. ' ' .. leases[i + 1]
  end
  for _, entry in ipairs(entries) do
    lines[#lines + 1] = 'E ' .. string.match(entry[1], '^%d+') .. ' ' .. entry[2][2]
  end
  local text = table.concat(lines, '\n')
  return text .. '\n' .. redis.sha1hex(text)
end
