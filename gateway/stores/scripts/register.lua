-- ARGV: epoch, worker.
redis.call('HSET', leases_key, ARGV[2], '0 -1 -1')
return view({})
