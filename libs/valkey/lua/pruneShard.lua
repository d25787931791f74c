-- pruneShard: removes from the shard's indices the executions that retention has removed. Bounded and repeatable.
-- KEYS[1] the shard's expiry index
-- ARGV    1 tag · 2 most executions to look at · 3 retention in ms
-- Returns the number of executions taken out
--!flags allow-oom
--!include base
--!include unlist
local due = redis.call('ZRANGEBYSCORE', key('expiry'), '-inf', int(NOW), 'LIMIT', 0, ARGV[2])
for _, id in ipairs(due) do unlist_execution(id) end
redis.call('ZREMRANGEBYSCORE', key('idx:agt:ended'), '-inf', int(NOW - tonumber(ARGV[3])))
return #due
