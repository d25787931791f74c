-- holdSlots: counts attempts that run, whatever the limits say. They began before the limits were set, or a failover lost their
-- slots. Repeatable.
-- KEYS[1] the attempts that have a slot
-- ARGV    1 control tag · 2 the version of the limits under which all that runs is counted with this call, or ''
--         · 3… JSON { id, k = the names that it counts under }
-- Returns { held = attempts that had no slot before }
--!flags allow-oom
--!include base
--!include slots
local held = 0
for i = 3, #ARGV do
  local one = cjson.decode(ARGV[i])
  local text = redis.call('HGET', key('lim:held'), one.id)
  local slot = text and cjson.decode(text)
  local before = slot and slot.k or {}
  if not text or table.concat(before, '\n') ~= table.concat(one.k, '\n') then
    for _, name in ipairs(before) do redis.call('SREM', key('lim:run:' .. name), one.id) end
    forget_waiting(one.id)
    hold(one.id, one.k)
    held = held + 1
  elseif slot.v ~= VERSION then
    slot.v = VERSION
    redis.call('HSET', key('lim:held'), one.id, cjson.encode(slot))
  end
end
if ARGV[2] ~= '' and redis.call('HGET', key('limits'), 'counting') == ARGV[2] then redis.call('HDEL', key('limits'), 'counting') end
return cjson.encode({ held = held })
