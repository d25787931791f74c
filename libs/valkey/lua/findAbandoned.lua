-- findAbandoned: executions whose last watcher is missed. Each is returned again after a while, until the missed watcher is
-- removed, so a caller may die in between. Bounded and repeatable.
-- KEYS[1] the shard's watchers, by when each is missed
-- ARGV    1 tag · 2 most to answer · 3 how long until they are answered again, milliseconds
-- Returns a JSON array of { executionId, watcher }; [] when there are none
--!flags allow-oom
--!include base
local found = {}
local due = redis.call('ZRANGEBYSCORE', key('watched'), '-inf', int(NOW), 'LIMIT', 0, ARGV[2])
if #due == 0 then return '[]' end
local watching = {}
for _, member in ipairs(redis.call('ZRANGEBYSCORE', key('watched'), '(' .. int(NOW), '+inf')) do
  watching[string.match(member, '^%S+')] = true
end
for _, member in ipairs(due) do
  local id, watcher = string.match(member, '^(%S+) (%S+)$')
  if id == nil or watching[id] then
    redis.call('ZREM', key('watched'), member)
  else
    redis.call('ZADD', key('watched'), int(NOW + tonumber(ARGV[3])), member)
    found[#found + 1] = { executionId = id, watcher = watcher }
  end
end
if #found == 0 then return '[]' end
return cjson.encode(found)
