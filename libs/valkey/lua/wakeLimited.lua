-- wakeLimited: what no end of an attempt wakes: room by the clock, by lapsed tickets and by changed limits; and tickets that nobody used,
-- since whoever was to hand the job over may have died. Bounded and repeatable.
-- KEYS[1] the attempts that hold a slot
-- ARGV    1 control tag · 2 most classes to look at · 3 most names to look at
-- Returns { woken = outbox entries to hand over, as JSON texts, waiting, held }
--!flags allow-oom
--!include base
--!include slots
local woken = {}
for _, name in ipairs(redis.call('ZRANGE', key('lim:rings'), 0, tonumber(ARGV[3]) - 1)) do
  redis.call('ZADD', key('lim:rings'), 'XX', int(NOW), name)
  wake(name, woken, tonumber(ARGV[2]))
end
for _, id in ipairs(redis.call('ZRANGEBYSCORE', key('lim:woken'), '-inf', int(NOW), 'LIMIT', 0, tonumber(ARGV[2]))) do
  local text = redis.call('HGET', key('lim:waiting'), id)
  if text then
    local waiting = cjson.decode(text)
    woken[#woken + 1] = waiting.e
    -- Under lifted limits no claim asks for a slot, and none would take it off the list: once more is enough.
    if is_limited(waiting.k) then redis.call('ZADD', key('lim:woken'), int(NOW + AGAIN_MS), id) else forget_waiting(id) end
  else redis.call('ZREM', key('lim:woken'), id) end
end
return cjson.encode({ woken = woken, waiting = redis.call('HLEN', key('lim:waiting')), held = redis.call('HLEN', key('lim:held')) })
