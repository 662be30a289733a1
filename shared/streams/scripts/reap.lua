-- Delete consumers that hold nothing and have been idle. ARGV 1 idle_ms. Reply: how many.
-- One that still holds entries is never deleted: that would drop them.
local consumers = redis.pcall('XINFO', 'CONSUMERS', JOBS, GROUP)
if consumers.err then return 0 end
local reaped = 0
for _, fields in ipairs(consumers) do
  local consumer = {}
  for i = 1, #fields, 2 do consumer[fields[i]] = fields[i + 1] end
  if consumer.pending == 0 and consumer.idle >= tonumber(ARGV[1]) then
    redis.call('XGROUP', 'DELCONSUMER', JOBS, GROUP, consumer.name)
    reaped = reaped + 1
  end
end
return reaped
