-- gateAttempts: tells which attempts may be handed to BullMQ now. The others wait in the control slot; a later freeSlots or
-- wakeLimited returns them. A ticket grants nothing: the claim asks takeSlot. Repeatable: an attempt that waits keeps its
-- place, and one with a ticket passes again. A new attempt waits behind those that wait; those are woken first where there is
-- room.
-- KEYS[1] the attempts that have a slot
-- ARGV    1 control tag · 2 most classes to look at
--         · 3… outbox entries as JSON text, each with `limits`, the names that it counts under
-- Returns { answers = 1 (hand it over) or 0 (it waits), in their order, woken = others to hand over, as JSON texts }
--!flags allow-oom
--!include base
--!include slots
local answers, enqueued, rings, woken, others = {}, {}, {}, {}, {}
for i = 3, #ARGV do
  local entry = cjson.decode(ARGV[i])
  local id, names = entry.agentId, entry.limits
  local pass = 1
  if redis.call('HEXISTS', key('lim:held'), id) == 0 and not had_turn(names, id) then
    if redis.call('HEXISTS', key('lim:waiting'), id) == 1 then pass = 0
    else
      local blocked = full_name(names, true) or queued_for(names, entry.pool)
      if blocked then
        enqueue(id, names, entry, blocked)
        enqueued[id], rings[blocked] = i - 2, true
        pass = 0
      else give_tickets(names, id) end
    end
  end
  answers[i - 2] = pass
end
for name in pairs(rings) do wake(name, woken, tonumber(ARGV[2])) end
for _, text in ipairs(woken) do
  local own = enqueued[cjson.decode(text).agentId]
  if own then answers[own] = 1 else others[#others + 1] = text end
end
return cjson.encode({ answers = answers, woken = others })
