-- Give what is pending on my name to whoever reads next, at once and without charging the
-- delivery; then, with nothing left, delete my consumer.
-- ARGV 1 consumer 2 visibility_ms 3 limit. Reply: entries given back (= limit: call again).
-- DELCONSUMER drops a consumer's pending entries, hence only an empty one, in this script.
local me, visibility = ARGV[1], ARGV[2]
local held = redis.pcall('XPENDING', JOBS, GROUP, '-', '+', ARGV[3], me)
if held.err then
  if string.find(held.err, 'NOGROUP', 1, true) then return 0 end
  error(held.err)
end
for _, row in ipairs(held) do
  local deliveries = math.max(row[4] - 1, 0)
  redis.call('XCLAIM', JOBS, GROUP, RELEASED, 0, row[1],
    'IDLE', visibility, 'RETRYCOUNT', deliveries, 'JUSTID')
end
if #redis.call('XPENDING', JOBS, GROUP, '-', '+', 1, me) == 0 then
  redis.call('XGROUP', 'DELCONSUMER', JOBS, GROUP, me)
end
return #held
