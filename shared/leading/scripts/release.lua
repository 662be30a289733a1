-- Delete the lease if ARGV 1 still holds it. KEYS 1 lease. ARGV 1 holder. Reply: 1 | 0.
if redis.call('HGET', KEYS[1], 'holder') ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
