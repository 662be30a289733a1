-- Turn dead letters into new jobs, which have all their attempts again.
-- ARGV per job: dead id, key, job (attempt 0). Reply: how many dead letters were removed.
local replayed, now = 0, now_ms()
for i = 1, #ARGV, 3 do
  if has_entry(DEAD, ARGV[i], ARGV[i + 1]) then
    redis.call('XDEL', DEAD, ARGV[i])
    if not place(ARGV[i + 1]) then
      add_entry(ARGV[i + 1], ARGV[i + 2], now)
      weigh(ARGV[i + 1], 1)
    end
    replayed = replayed + 1
  end
end
save_load()
return replayed
