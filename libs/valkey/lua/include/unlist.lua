-- Removes an execution from its shard's indices.
local function unlist_execution(id)
  redis.call('ZREM', key('expiry'), id)
  redis.call('ZREM', key('idx:exe'), id)
  redis.call('HDEL', key('idx:node-labels'), id)
  for state in pairs(TABLES.execution) do redis.call('ZREM', key('idx:exe:' .. state), id) end
  local labels = redis.call('HGET', key('idx:labels'), id)
  if not labels then return end
  for _, label in ipairs(cjson.decode(labels)) do redis.call('ZREM', key('idx:lbl:' .. label), id) end
  redis.call('HDEL', key('idx:labels'), id)
end
