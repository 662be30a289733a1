-- Reset the idle time of a consumer's entries; their delivery count stays (JUSTID).
-- ARGV 1 consumer, then entry ids. Reply: the ids that the consumer still holds.
-- Without the check a stale consumer would take an entry back from its new holder.
local consumer, held = ARGV[1], {}
for i = 2, #ARGV do
  local row = pending(ARGV[i])
  if row and row[2] == consumer then
    local kept = redis.call('XCLAIM', JOBS, GROUP, consumer, 0, ARGV[i], 'JUSTID')
    if #kept == 1 then held[#held + 1] = ARGV[i] end
  end
end
return held
