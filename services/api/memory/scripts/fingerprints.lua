-- Forget the writes that were answered, then return under which id to write each new one:
-- its own, or that of the unanswered write it repeats.
-- KEYS fingerprints: of the answered writes, then of the new ones
-- ARGV 1 how many are answered 2 ttl_ms, then per key the id
-- Reply per new write: the id to write under
local answered, ids = tonumber(ARGV[1]), {}
for i, key in ipairs(KEYS) do
  local id = ARGV[i + 2]
  local held = redis.call('GET', key)
  if i <= answered then
    if held == id then redis.call('DEL', key) end
  else
    -- A repeat begins the time anew: its own repeat may come as late after it.
    redis.call('SET', key, held or id, 'PX', ARGV[2])
    ids[#ids + 1] = held or id
  end
end
return ids
