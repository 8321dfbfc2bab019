-- Every script on what happened begins so.  KEYS: what happened of one kind, in its order.  ARGV[1]: the
-- epoch to begin with where there is none.
--
-- No clock is asked, as one that steps would forget, or turn the order round.  A sorted set: a
-- member's score is its place in the order; the first is the epoch, its score the place up to
-- which names were forgotten, so that nothing is lost of it without the rest.
local MOST, KEPT_S = 20000, 86400
local key = KEYS[1]
local first = redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')
local epoch, forgotten = string.match(first[1] or '', '^epoch:(%x+)$'), tonumber(first[2] or '')
if not epoch then
  epoch, forgotten = ARGV[1], 0
  redis.call('DEL', key)
  redis.call('ZADD', key, 0, 'epoch:' .. epoch)
end
-- What nobody asks for any more ends as a whole, epoch and all.
if redis.call('TTL', key) < KEPT_S / 2 then
  redis.call('EXPIRE', key, KEPT_S)
end
local last = tonumber(redis.call('ZRANGE', key, -1, -1, 'WITHSCORES')[2])

-- A server that was restarted may have read older files, and one that took over from another may
-- lack its last writes: what they know is of another incarnation.
local function incarnation()
  local run_id = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)') or ''
  local repl_id = string.match(redis.call('INFO', 'replication'), 'master_replid:(%w+)') or ''
  return redis.sha1hex(epoch .. '.' .. run_id .. '.' .. repl_id)
end
