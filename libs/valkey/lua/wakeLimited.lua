-- wakeLimited: finds room that no end of an attempt announces: by the clock, by lapsed tickets and by changed limits. It also
-- renews tickets that nobody used, since the process that should hand the job over may have died. Bounded and repeatable.
-- KEYS[1] the attempts that have a slot
-- ARGV    1 control tag · 2 most classes to look at · 3 most names to look at
-- Returns { woken = outbox entries to hand over, as JSON texts, again = those that were handed over before,
--         isFull = there is more to wake, held }
--!flags allow-oom
--!include base
--!include slots
local most, woken, again, has_stopped = tonumber(ARGV[2]), {}, {}, false
not_after(key('lim:rings'), NOW, NOW)
not_after(key('lim:woken'), NOW + AGAIN_MS, NOW + TICKET_MS)
local names = redis.call('ZRANGE', key('lim:rings'), 0, tonumber(ARGV[3]) - 1)
for _, name in ipairs(names) do
  if #woken >= most then break end
  redis.call('ZADD', key('lim:rings'), 'XX', int(NOW), name)
  if wake(name, woken, most) then has_stopped = true end
end
local lapsed = redis.call('ZRANGEBYSCORE', key('lim:woken'), '-inf', int(NOW), 'LIMIT', 0, most)
-- If nothing was woken, another call would look at as many classes in vain.
local is_full = #lapsed == most or #woken >= most or (#woken > 0 and (has_stopped or #names == tonumber(ARGV[3])))
for _, id in ipairs(lapsed) do
  local text = redis.call('HGET', key('lim:waiting'), id)
  if text then
    local waiting = cjson.decode(text)
    again[#again + 1] = waiting.e
    -- Under lifted limits no claim asks for a slot, so no claim would remove the attempt from the list: one more hand-over is
    -- enough.
    if is_limited(waiting.k) then redis.call('ZADD', key('lim:woken'), int(NOW + AGAIN_MS), id) else forget_waiting(id) end
  else redis.call('ZREM', key('lim:woken'), id) end
end
return cjson.encode({ woken = woken, again = again, isFull = is_full, held = redis.call('HLEN', key('lim:held')) })
