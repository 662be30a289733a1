-- Give a tenant its next due time, or remove it where it has none.
-- Nothing changes if its score is another than when it was read: a write has set it since.
-- KEYS 1 the tenants by due time. ARGV 1 tenant 2 score that was read 3 next due or ''.
-- Reply: 1 if it was moved, else 0.
if redis.call('ZSCORE', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
if ARGV[3] == '' then return redis.call('ZREM', KEYS[1], ARGV[1]) end
redis.call('ZADD', KEYS[1], ARGV[3], ARGV[1])
return 1
