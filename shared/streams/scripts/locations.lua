-- Where jobs are. ARGV job keys.
-- Reply per key: {} (nowhere), or seven texts, empty where they do not apply:
--   {'queued' | 'in_flight' | 'delayed' | 'dead', job, due in ms, error,
--    dead letter's id, its reason, when it became one in ms}
local replies = {}

local function dead_letter(id)
  local fields = {}
  local flat = redis.call('XRANGE', DEAD, id, id)[1][2]
  for i = 1, #flat, 2 do fields[flat[i]] = flat[i + 1] end
  return {'dead', fields.job or '', '', fields.error or '', id, fields.reason or '', fields.buried or ''}
end

for n, key in ipairs(ARGV) do
  local at = place(key)
  local where, what = string.match(at or '', '^(%a+):(.*)$')
  if where == 'dead' then
    replies[n] = dead_letter(what)
  elseif where == 'delayed' then
    local due = redis.call('ZSCORE', DELAYED, key .. '\n' .. what)
    local job, error_text = string.match(what, '\n([^\n]*)\n([^\n]*)$')
    replies[n] = {'delayed', job, due, error_text, '', '', ''}
  elseif where then
    local row = pending(what)
    local held = row and row[2] ~= RELEASED
    local entry = redis.call('XRANGE', JOBS, what, what)[1]
    replies[n] = {held and 'in_flight' or 'queued', entry[2][4] or '', '', '', '', '', ''}
  else
    replies[n] = {}
  end
end
return replies
