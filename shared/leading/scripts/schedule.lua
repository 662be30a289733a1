-- Return when the schedule last ran. KEYS 1 last run (ms). ARGV 1 ttl_ms: > 0 stores a run now.
-- Reply: now in ms, last run in ms (0: unknown). One clock for all replicas: the server's.
local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
if tonumber(ARGV[1]) > 0 then redis.call('SET', KEYS[1], now, 'PX', ARGV[1]) end
return {tonumber(now), tonumber(redis.call('GET', KEYS[1]) or '0')}
