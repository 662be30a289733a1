-- Delete dead letters, so that a job of the same key can be published again.
-- ARGV dead letters' ids. Reply: how many of them there were.
local discarded = 0
for _, id in ipairs(ARGV) do
  local found = redis.call('XRANGE', DEAD, id, id)
  if #found == 1 then
    local key = found[1][2][2]
    redis.call('XDEL', DEAD, id)
    if redis.call('HGET', AT, key) == 'dead:' .. id then redis.call('HDEL', AT, key) end
    discarded = discarded + 1
  end
end
return discarded
