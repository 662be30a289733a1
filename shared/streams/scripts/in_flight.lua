-- How many of a tenant's jobs consumers hold. ARGV tenant, most pending entries to look at.
local held = redis.pcall('XPENDING', JOBS, GROUP, '-', '+', ARGV[2])
if held.err then
  if string.find(held.err, 'NOGROUP', 1, true) then return 0 end
  error(held.err)
end
local count, start = 0, ARGV[1] .. '|'
for _, row in ipairs(held) do
  local entry = row[2] ~= RELEASED and redis.call('XRANGE', JOBS, row[1], row[1])[1]
  if entry and string.sub(entry[2][2], 1, #start) == start then count = count + 1 end
end
return count
