-- takeSlot: grants an attempt a slot under every limit that it counts under, or none. No other script counts. The claim that
-- follows needs the grant. Where a limit is full, the attempt waits for it. Repeatable: the slot is the attempt's until it is
-- given back or the limits change. After a change the attempt asks anew, because it may exceed the new limits; a running
-- attempt is counted with the change. An attempt without a turn of its own waits behind those that wait; those are woken first
-- where there is room.
-- KEYS[1] the attempts that have a slot
-- ARGV    1 control tag · 2 outbox entry as JSON · 3 the names that it counts under, as a JSON array
--         · 4 most classes to look at
-- Returns { grant, woken = others to hand over, as JSON texts }
--         · refused: LIMITED { limit = the name that it waits for, woken }
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
local in_turn, woken, others = held or had_turn(names, id), {}, {}
local blocked = full_name(names, not in_turn) or (not in_turn and queued_for(names, entry.pool))
if blocked then
  enqueue(id, names, entry, blocked)
  wake(blocked, woken, tonumber(ARGV[4]))
  for _, text in ipairs(woken) do
    if cjson.decode(text).agentId == id then blocked = nil else others[#others + 1] = text end
  end
  if blocked then return refuse('LIMITED', { limit = blocked, woken = others }) end
end
forget_waiting(id)
take_tickets(names, id)
return cjson.encode({ grant = hold(id, names, true), woken = others })
