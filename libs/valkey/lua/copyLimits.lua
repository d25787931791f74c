-- copyLimits: a shard takes a newer copy of the fleet's limits. After a failover that lost a change, the control slot takes the
-- copy of a shard. Repeatable; a copy that is not newer changes nothing.
-- KEYS[1] the copy
-- ARGV    1 tag · 2 version · 3 JSON array of rules · 4 1: what runs is to be counted before anybody gets a slot
-- Returns { applied }
--!flags allow-oom
--!include base
local applied = tonumber(ARGV[2]) > tonumber(redis.call('HGET', key('limits'), 'version') or '0')
if applied then
  redis.call('HSET', key('limits'), 'version', ARGV[2], 'set', ARGV[3])
  if ARGV[4] == '1' then redis.call('HSET', key('limits'), 'counting', ARGV[2]) end
end
return cjson.encode({ applied = applied })
