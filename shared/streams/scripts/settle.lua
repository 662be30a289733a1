-- Move each entry to one next state; each entry's settlement happens completely or not at all.
-- ARGV 1 consumer, then per entry: id, key, transition and
--      ack: nothing · delay: job, delay_ms, error (one line)
--      dead_letter: job, reason, error, attempts
-- Reply per entry: OK | GONE (it is not pending) | LOST (another consumer holds it). GONE and LOST
-- change nothing. An ack is never LOST: it is accepted whichever consumer holds the entry.
-- Where the ledger names another place of the same job, the entry is a copy: it is only deleted.
local consumer, replies, i = ARGV[1], {}, 2

-- Delete the entry. Returns whether its job gets a next state: not for a copy or without a key.
local function remove(id, key)
  redis.call('XACK', JOBS, GROUP, id)
  local removed = redis.call('XDEL', JOBS, id)
  if key == '' then return false end
  local named = redis.call('HGET', AT, key) == 'entry:' .. id
  if removed == 1 or named then weigh(key, -1) end
  return named or not place(key)
end

local function first_of(id)
  local found = redis.call('XRANGE', JOBS, id, id)
  if #found == 0 or found[1][2][5] ~= 'first' then return string.match(id, '^%d+') end
  return found[1][2][6]
end

local function delay(id, key, job, delay_ms, error_text)
  local first = first_of(id)
  if not remove(id, key) then return end
  local waiting = first .. '\n' .. job .. '\n' .. error_text
  redis.call('ZADD', DELAYED, string.format('%.0f', now_ms() + delay_ms), key .. '\n' .. waiting)
  redis.call('HSET', AT, key, 'delayed:' .. waiting)
  weigh(key, 1)
end

local function dead_letter(row, key, job, reason, error_text, attempts)
  local first = first_of(row[1])
  if not remove(row[1], key) and key ~= '' then return end
  local id = redis.call('XADD', DEAD, '*', 'key', key, 'job', job, 'reason', reason,
    'error', error_text, 'attempts', attempts, 'deliveries', row[4], 'first', first,
    'buried', now_ms(), 'consumer', consumer)
  if key ~= '' then redis.call('HSET', AT, key, 'dead:' .. id) end
end

local function ack(id, key)
  if redis.call('XACK', JOBS, GROUP, id) == 0 then return 'GONE' end
  local named = redis.call('HGET', AT, key) == 'entry:' .. id
  if named then redis.call('HDEL', AT, key) end
  if redis.call('XDEL', JOBS, id) == 1 or named then weigh(key, -1) end
  return 'OK'
end

while i <= #ARGV do
  local id, key, transition = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local row = transition ~= 'ack' and pending(id)
  local reply = 'OK'
  if transition == 'ack' then
    reply = ack(id, key)
  elseif not row then
    reply = 'GONE'
  elseif row[2] ~= consumer then
    reply = 'LOST'
  elseif transition == 'delay' then
    delay(id, key, ARGV[i + 3], ARGV[i + 4], ARGV[i + 5])
  else
    dead_letter(row, key, ARGV[i + 3], ARGV[i + 4], ARGV[i + 5], ARGV[i + 6])
  end
  replies[#replies + 1] = reply
  i = i + (transition == 'ack' and 3 or transition == 'delay' and 6 or 7)
end
save_load()
return replies
