-- pruneShard: takes what retention has removed out of the shard's indices. Bounded and repeatable.
-- KEYS[1] the shard's expiry index
-- ARGV    1 tag · 2 most executions to look at · 3 retention in ms
-- Returns the number of executions taken out
--!flags allow-oom
--!include base
local due = redis.call('ZRANGEBYSCORE', key('expiry'), '-inf', int(NOW), 'LIMIT', 0, ARGV[2])
for _, id in ipairs(due) do
  redis.call('ZREM', key('expiry'), id)
  redis.call('ZREM', key('idx:exe'), id)
  redis.call('HDEL', key('idx:node-labels'), id)
  for state in pairs(TABLES.execution) do redis.call('ZREM', key('idx:exe:' .. state), id) end
  local labels = redis.call('HGET', key('idx:labels'), id)
  if labels then
    for _, label in ipairs(cjson.decode(labels)) do redis.call('ZREM', key('idx:lbl:' .. label), id) end
    redis.call('HDEL', key('idx:labels'), id)
  end
end
redis.call('ZREMRANGEBYSCORE', key('idx:agt:ended'), '-inf', int(NOW - tonumber(ARGV[3])))
return #due
