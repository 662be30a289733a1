-- Take up to limit pending entries from a consumer, so that other consumers get them at once.
-- An entry with one delivery is deleted and, where the ledger names it, added again as a new one.
-- An entry with more deliveries stays pending under RELEASED, its count reduced by this delivery.
-- The consumer is deleted once it holds nothing: DELCONSUMER would drop its pending entries.
-- ARGV 1 consumer 2 visibility_ms 3 limit. Reply: entries taken (= limit: call again).
local consumer, visibility = ARGV[1], ARGV[2]
local held = redis.pcall('XPENDING', JOBS, GROUP, '-', '+', ARGV[3], consumer)
if held.err then
  if string.find(held.err, 'NOGROUP', 1, true) then return 0 end
  error(held.err)
end
for _, row in ipairs(held) do
  local id = row[1]
  local found = redis.call('XRANGE', JOBS, id, id)
  local fields = #found == 1 and found[1][2] or {}
  if row[4] > 1 then
    -- Another consumer went silent with this entry before: a new entry would lose that count.
    redis.call('XCLAIM', JOBS, GROUP, RELEASED, 0, id,
      'IDLE', visibility, 'RETRYCOUNT', row[4] - 1, 'JUSTID')
  else
    redis.call('XACK', JOBS, GROUP, id)
    redis.call('XDEL', JOBS, id)
    if fields[1] == 'key' and redis.call('HGET', AT, fields[2]) == 'entry:' .. id then
      add_entry(fields[2], fields[4], fields[6])
    end
  end
end
if #redis.call('XPENDING', JOBS, GROUP, '-', '+', 1, consumer) == 0 then
  redis.call('XGROUP', 'DELCONSUMER', JOBS, GROUP, consumer)
end
return #held
