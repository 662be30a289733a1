-- Add each job that is not live and not dead.
-- ARGV 1 high water (0: exempt) 2 a tenant's limit 3 total from which that limit holds,
--      then per job: key, job
-- Reply per job: NEW | DUPLICATE (live: nothing done) | DEAD (a dead letter: nothing done) | BUSY
local high, share, crowded = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local total = redis.call('XLEN', JOBS) + redis.call('ZCARD', DELAYED)
if total == 0 then redis.call('DEL', LOAD) end
local first, answers, loads = now_ms(), {}, {}

local function busy(tenant)
  if high == 0 then return false end
  if total >= high then return true end
  if total < crowded then return false end
  loads[tenant] = loads[tenant] or tonumber(redis.call('HGET', LOAD, tenant) or '0')
  return loads[tenant] + (changes[tenant] or 0) >= share
end

for i = 4, #ARGV, 2 do
  local key = ARGV[i]
  local at = place(key)
  if at then
    answers[#answers + 1] = string.sub(at, 1, 5) == 'dead:' and 'DEAD' or 'DUPLICATE'
  elseif busy(string.match(key, '^[^|]*')) then
    answers[#answers + 1] = 'BUSY'
  else
    add_entry(key, ARGV[i + 1], first)
    weigh(key, 1)
    total = total + 1
    answers[#answers + 1] = 'NEW'
  end
end
save_load()
return answers
