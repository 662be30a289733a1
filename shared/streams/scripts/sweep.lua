-- Clear the ledger's fields that name nothing. ARGV job keys. Reply: how many were cleared.
local cleared = 0
for _, key in ipairs(ARGV) do
  if not place(key) then cleared = cleared + redis.call('HDEL', AT, key) end
end
return cleared
