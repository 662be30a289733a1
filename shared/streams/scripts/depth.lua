-- Count the stage. Reply: ready, pending, delayed, dead, age in ms of the oldest live job (-1: none)
-- A job's age counts from its first publish; retries and waits do not reset it.
local held = redis.pcall('XPENDING', JOBS, GROUP)
local pending_now = held.err and 0 or held[1]
local waiting = redis.call('ZRANGE', DELAYED, 0, 0)[1]
local head = redis.call('XRANGE', JOBS, '-', '+', 'COUNT', 1)[1]
local oldest = nil
if head then
  oldest = tonumber(head[2][5] == 'first' and head[2][6] or string.match(head[1], '^%d+'))
end
if waiting then
  local first = tonumber(string.match(waiting, '\n(%d+)\n[^\n]*\n[^\n]*$'))
  if first then oldest = math.min(oldest or first, first) end
end
return {math.max(redis.call('XLEN', JOBS) - pending_now, 0), pending_now,
  redis.call('ZCARD', DELAYED), redis.call('XLEN', DEAD),
  oldest and math.max(tonumber(now_ms()) - oldest, 0) or -1}
