-- Every script of a stage begins with this file. The ledger says where each job of it is.
-- KEYS 1 jobs (stream) 2 delayed (zset) 3 dead (stream) 4 at (the ledger, hash) 5 load (hash)
-- at:      job key -> 'entry:<id>' | 'delayed:<first_ms>\n<job>\n<error>' | 'dead:<id>'
-- delayed: '<key>\n<first_ms>\n<job>\n<error>' by due ms, so ZSCORE answers for what the ledger names
-- load:    tenant -> its live jobs; dropped whenever none is live, so that it cannot drift
local JOBS, DELAYED, DEAD, AT, LOAD = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local GROUP, RELEASED = 'workers', 'released'

local function now_ms()
  local now = redis.call('TIME')
  return string.format('%.0f', now[1] * 1000 + math.floor(now[2] / 1000))
end

local function has_entry(stream, id, key)
  local found = redis.call('XRANGE', stream, id, id)
  return #found == 1 and found[1][2][2] == key
end

-- The ledger's value for key, or false where what it names is not there (any more).
local function place(key)
  local at = redis.call('HGET', AT, key)
  if not at then return false end
  local where, what = string.match(at, '^(%a+):(.*)$')
  if where == 'delayed' then return redis.call('ZSCORE', DELAYED, key .. '\n' .. what) and at end
  return has_entry(where == 'dead' and DEAD or JOBS, what, key) and at
end

-- XPENDING's row {id, consumer, idle_ms, deliveries}; nil when not pending or without a group.
local function pending(id)
  local rows = redis.pcall('XPENDING', JOBS, GROUP, id, id, 1)
  if not rows.err then return rows[1] end
  if string.find(rows.err, 'NOGROUP', 1, true) then return nil end
  error(rows.err)
end

local changes = {}
local function weigh(key, by)
  local tenant = string.match(key, '^[^|]*')
  changes[tenant] = (changes[tenant] or 0) + by
end

local function save_load()
  if redis.call('XLEN', JOBS) + redis.call('ZCARD', DELAYED) == 0 then
    redis.call('DEL', LOAD)
    return
  end
  for tenant, by in pairs(changes) do
    if by ~= 0 and redis.call('HINCRBY', LOAD, tenant, by) <= 0 then
      redis.call('HDEL', LOAD, tenant)
    end
  end
end

local function add_entry(key, job, first)
  local id = redis.call('XADD', JOBS, '*', 'key', key, 'job', job, 'first', first)
  redis.call('HSET', AT, key, 'entry:' .. id)
end
