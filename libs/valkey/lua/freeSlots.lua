-- freeSlots: gives back the slots of attempts that ended or will not start, and gives tickets to waiting attempts, in turn.
-- Repeatable.
-- KEYS[1] the attempts that have a slot
-- ARGV    1 control tag · 2 ended · unstarted · waiting (those that wait or have a ticket, and none that has a slot)
--         · 3 most classes to look at
--         · 4… attempts, each as `id` or `id grant`: then only while it has that grant
-- Returns { woken = outbox entries to hand over, as JSON texts }
--!flags allow-oom
--!include base
--!include slots
local woken, names = {}, {}
for i = 4, #ARGV do
  local id, grant = string.match(ARGV[i], '^(%S+) ?(%d*)$')
  local held = grant ~= '' and redis.call('HGET', key('lim:held'), id)
  if ARGV[2] == 'waiting' then
    local waiting = forget_waiting(id)
    for _, name in ipairs(waiting and waiting.k or {}) do names[name] = true end
  elseif grant == '' or (held and int(cjson.decode(held).g) == grant) then
    for _, name in ipairs(let_go(id, ARGV[2] == 'unstarted')) do names[name] = true end
  end
end
for name in pairs(names) do wake(name, woken, tonumber(ARGV[3])) end
return cjson.encode({ woken = woken })
