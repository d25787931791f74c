-- gateAttempts: which attempts may be handed to BullMQ now. The others wait here, and are answered by a later freeSlots or wakeLimited.
-- A ticket decides nothing: the claim asks takeSlot. Repeatable: an attempt that waits goes on waiting, in its place.
-- KEYS[1] the attempts that hold a slot
-- ARGV    1 control tag · 2… outbox entries as JSON text, each with `limits`, the names that it counts under
-- Returns a JSON array of 1 (hand it over) or 0 (it waits), in their order
--!flags allow-oom
--!include base
--!include slots
local answers = {}
for i = 2, #ARGV do
  local entry = cjson.decode(ARGV[i])
  local id, names = entry.agentId, entry.limits
  local pass = 1
  if redis.call('HEXISTS', key('lim:held'), id) == 0 and not redis.call('ZSCORE', key('lim:woken'), id) then
    local blocked
    if redis.call('HEXISTS', key('lim:waiting'), id) == 1 then pass = 0
    else
      blocked = full_name(names, true)
      if blocked then
        enqueue(id, names, entry, blocked)
        pass = 0
      else give_tickets(names, id) end
    end
  end
  answers[#answers + 1] = pass
end
return cjson.encode(answers)
