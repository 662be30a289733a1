-- Keep my entries mine: idle back to 0, delivery count untouched (JUSTID).
-- ARGV 1 consumer, then entry ids. Reply: the ids that are still mine.
-- Without the check a stale consumer would take an entry back from its new owner.
local me, mine = ARGV[1], {}
for i = 2, #ARGV do
  local row = pending(ARGV[i])
  if row and row[2] == me then
    local kept = redis.call('XCLAIM', JOBS, GROUP, me, 0, ARGV[i], 'JUSTID')
    if #kept == 1 then mine[#mine + 1] = ARGV[i] end
  end
end
return mine
