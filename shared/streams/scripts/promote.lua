-- Move delayed jobs that are due into the stream. ARGV 1 limit.
-- Reply: how many were removed from `delayed`.
local due = redis.call('ZRANGEBYSCORE', DELAYED, '-inf', now_ms(), 'LIMIT', 0, ARGV[1])
for _, member in ipairs(due) do
  local key, first, job, rest = string.match(member, '^(.*)\n(%d+)\n([^\n]*)(\n[^\n]*)$')
  redis.call('ZREM', DELAYED, member)
  if key then
    local named = redis.call('HGET', AT, key) == 'delayed:' .. first .. '\n' .. job .. rest
    if named or not place(key) then add_entry(key, job, first) else weigh(key, -1) end
  end
end
save_load()
return #due
