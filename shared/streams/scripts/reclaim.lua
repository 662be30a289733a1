-- Take over entries whose consumer is silent or has handed them back.
-- ARGV 1 consumer 2 visibility_ms 3 limit 4 cursor ('-' at first)
--      5 deliveries from which an entry is poison 6 'together' | 'alone'
-- XAUTOCLAIM is not used: it counts a delivery for each entry it takes and does not return counts.
-- Poison (an entry that may crash its consumer) runs alone: 'together' does not take it, 'alone'
-- takes one such entry and nothing else. A call reads a page of about 10 x limit pending entries,
-- and the next call goes on at the cursor, so that every pending entry is reached.
-- Reply: next cursor, 1 if poison waits, taken over from the silent, ids without an entry,
--        then per entry: {id, deliveries, fields}
local consumer, visibility, limit, cursor = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]
local poison_from, alone = tonumber(ARGV[5]), ARGV[6] == 'alone'
local taken, missing, poison_waits, silent = {}, {}, 0, 0

local function wanted(row)
  if row[4] >= poison_from == alone then return true end
  if not alone then poison_waits = 1 end
  return false
end

local function take(row)
  if not wanted(row) then return end
  if #taken >= limit then
    poison_waits = alone and 1 or poison_waits
    return
  end
  local entry = redis.call('XCLAIM', JOBS, GROUP, consumer, 0, row[1])[1]
  if entry then
    taken[#taken + 1] = {row[1], row[4] + 1, entry[2]}
    if row[2] ~= RELEASED then silent = silent + 1 end
  else
    redis.call('XACK', JOBS, GROUP, row[1])
    missing[#missing + 1] = row[1]
  end
end

local function rows(start, count, ...)
  local found = redis.pcall('XPENDING', JOBS, GROUP, start, '+', count, ...)
  if not found.err then return found end
  if string.find(found.err, 'NOGROUP', 1, true) then return {} end
  error(found.err)
end

for _, row in ipairs(rows('-', math.max(limit * 10, 100), RELEASED)) do take(row) end
local page = math.min(math.max(limit * 10, 100), 1000)
local seen = rows(cursor, page)
local last = 0
for n, row in ipairs(seen) do
  if #taken >= limit and not alone then break end
  last = n
  if row[2] ~= RELEASED and row[3] >= visibility then take(row) end
end
local next_cursor = '-'
if last > 0 and (last < #seen or #seen == page) then next_cursor = '(' .. seen[last][1] end
if last == 0 and #seen > 0 then next_cursor = cursor end
return {next_cursor, poison_waits, silent, missing, unpack(taken)}
