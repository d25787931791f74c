-- askRoom: tells whether attempts could start now under the fleet's limits. Reserves nothing.
-- KEYS[1] the attempts that have a slot
-- ARGV    1 control tag · 2… JSON { k = the names that an attempt counts under, pool }
-- Returns { limit = the first name that is full,
--           or that others wait for; waitMs = until the oldest start of its minute is over,
--           where a limit per minute has it full }, or {} where each could start
--!include base
--!include slots
for i = 2, #ARGV do
  local asked = cjson.decode(ARGV[i])
  local limit = full_name(asked.k, true) or queued_for(asked.k, asked.pool)
  if limit then
    local wait
    for _, rule in ipairs(rules_of(limit)) do
      local oldest = rule.perMinute and redis.call('ZCARD', key('lim:rate:' .. limit)) >= rule.perMinute
        and redis.call('ZRANGE', key('lim:rate:' .. limit), 0, 0, 'WITHSCORES')[2]
      if oldest then wait = math.max(wait or 0, tonumber(oldest) + RATE_MS - NOW) end
    end
    return cjson.encode({ limit = limit, waitMs = wait and int(wait) })
  end
end
return '{}'
