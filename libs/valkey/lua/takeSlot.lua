-- takeSlot: a slot for an attempt under every limit that it counts under, or none: the one place that counts. The claim that follows needs
-- the grant. Where a limit is full the attempt waits for it. Repeatable: the slot is the attempt's until it is given back, or the limits are
-- changed. Then it asks anew: one that was granted under other limits may be over these. One that runs is counted with the change.
-- KEYS[1] the attempts that hold a slot
-- ARGV    1 control tag · 2 outbox entry as JSON · 3 the names that it counts under, as a JSON array
-- Returns { grant } · refused: LIMITED { limit = the name that is full }
--!flags allow-oom
--!include base
--!include slots
local entry, names = cjson.decode(ARGV[2]), cjson.decode(ARGV[3])
local id = entry.agentId
local held = redis.call('HGET', key('lim:held'), id)
if held then
  local slot = cjson.decode(held)
  if slot.v == VERSION and table.concat(slot.k, '\n') == table.concat(names, '\n') then return cjson.encode({ grant = slot.g }) end
  let_go(id, true)
end
local blocked = full_name(names, false)
if blocked then
  enqueue(id, names, entry, blocked)
  return refuse('LIMITED', { limit = blocked })
end
forget_waiting(id)
take_tickets(names, id)
return cjson.encode({ grant = hold(id, names, true) })
