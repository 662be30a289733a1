-- Become the leader, or remain it. A holder is one term's name, never used again.
-- KEYS 1 lease {holder, token} 2 last token. ARGV 1 holder 2 ttl_ms 3 'acquire' | 'renew' 4 keep_ms
-- Reply: the term's token, or 0: another holds it, or (renew) the term has expired.
-- max(last + 1, now) keeps tokens rising when the last one was lost with the whole of Redis.
local holder = redis.call('HGET', KEYS[1], 'holder')
if holder == ARGV[1] then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
  return tonumber(redis.call('HGET', KEYS[1], 'token'))
end
if holder or ARGV[3] == 'renew' then return 0 end
local now = redis.call('TIME')
local now_ms = now[1] * 1000 + math.floor(now[2] / 1000)
local token = math.max(tonumber(redis.call('GET', KEYS[2]) or '0') + 1, now_ms)
local text = string.format('%.0f', token)
redis.call('SET', KEYS[2], text, 'PX', ARGV[4])
redis.call('HSET', KEYS[1], 'holder', ARGV[1], 'token', text)
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return token
