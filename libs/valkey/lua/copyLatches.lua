-- copyLatches: a shard takes a newer copy of the engaged latches. Where a latch of its own copy is gone, what was parked is due
-- again: the shard notes that in the same act, so that nobody's death in between keeps it parked. Repeatable; a copy that is
-- not newer changes nothing, and goes on with what is left to free.
-- KEYS[1] the shard's copy
-- ARGV    1 tag · 2 version · 3 JSON array of latches · 4 most parked attempts to free in this call
-- Returns { applied, freed = number of attempts freed, more = there are parked attempts left to free }
--!flags allow-oom
--!include base
local copy = key('latches')
local held = tonumber(redis.call('HGET', copy, 'version') or '0')
local applied = tonumber(ARGV[2]) > held

-- A latch that this shard obeyed is in the list no more.
local function is_released()
  local engaged = {}
  for _, latch in ipairs(cjson.decode(ARGV[3])) do engaged[latch.id] = true end
  for _, latch in ipairs(cjson.decode(redis.call('HGET', copy, 'set') or '[]')) do
    if not engaged[latch.id] then return true end
  end
  return false
end

if applied then
  if is_released() then redis.call('HSET', copy, 'freeing', '1') end
  redis.call('HSET', copy, 'version', ARGV[2], 'set', ARGV[3])
end
if redis.call('HEXISTS', copy, 'freeing') == 0 then return cjson.encode({ applied = applied, freed = 0, more = false }) end
local most = tonumber(ARGV[4])
local freed = redis.call('SPOP', key('parked'), int(most))
-- Due since ever: the next sweep hands them over, and a late note of the hand-over before does not postpone that.
for _, id in ipairs(freed) do redis.call('ZADD', key('outbox:at'), 'XX', 0, id) end
local more = #freed >= most
if not more then redis.call('HDEL', copy, 'freeing') end
return cjson.encode({ applied = applied, freed = #freed, more = more })
