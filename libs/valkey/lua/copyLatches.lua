-- copyLatches: a shard takes a newer copy of the engaged latches. If the new copy lacks a latch of the old one, parked attempts
-- are due again. The same script notes that, so that no process's death in between keeps them parked. Repeatable; a copy that
-- is not newer changes nothing, and the call goes on freeing parked attempts.
-- KEYS[1] the shard's copy
-- ARGV    1 tag · 2 version · 3 JSON array of latches · 4 most parked attempts to free in this call
-- Returns { applied, freed = number of attempts freed,
--           more = there are parked attempts left to free; where the shard's copy is not older and not the same: least = the
--           version that the list must have by now, set = the shard's latches as JSON text }
--!flags allow-oom
--!include base
local copy = key('latches')
local given, held = tonumber(ARGV[2]), tonumber(redis.call('HGET', copy, 'version') or '0')
local set = redis.call('HGET', copy, 'set') or '[]'
local applied = given > held

local function ids_of(text)
  local ids = {}
  for _, latch in ipairs(cjson.decode(text)) do ids[latch.id] = true end
  return ids
end
local function is_within(some, others)
  for id in pairs(some) do
    if not others[id] then return false end
  end
  return true
end
local own, listed = ids_of(set), ids_of(ARGV[3])

local function answer(freed, more)
  local result = { applied = applied, freed = freed, more = more }
  local is_same = is_within(own, listed) and is_within(listed, own)
  if held > given then result.least, result.set = int(held), set
  -- Two different lists have one version, so the control slot's list must get a higher one.
  elseif held == given and not is_same then result.least, result.set = int(held + 1), set end
  return cjson.encode(result)
end

if applied then
  -- A latch that this shard obeyed is no longer in the list.
  if not is_within(own, listed) then redis.call('HSET', copy, 'freeing', '1') end
  redis.call('HSET', copy, 'version', ARGV[2], 'set', ARGV[3])
end
if redis.call('HEXISTS', copy, 'freeing') == 0 then return answer(0, false) end
local most = tonumber(ARGV[4])
local freed = redis.call('SPOP', key('parked'), int(most))
-- Score 0 is due since ever: the next sweep hands these over, and a late ackOutbox of an earlier hand-over does not postpone
-- that.
for _, id in ipairs(freed) do redis.call('ZADD', key('outbox:at'), 'XX', 0, id) end
local more = #freed >= most
if not more then redis.call('HDEL', copy, 'freeing') end
return answer(#freed, more)
