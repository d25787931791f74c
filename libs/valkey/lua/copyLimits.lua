-- copyLimits: a shard takes a newer copy of the fleet's limits. Repeatable; a copy that is not newer changes nothing.
-- KEYS[1] the shard's copy
-- ARGV    1 tag · 2 version · 3 JSON array of rules
-- Returns { applied }
--!flags allow-oom
--!include base
local applied = tonumber(ARGV[2]) > tonumber(redis.call('HGET', key('limits'), 'version') or '0')
if applied then redis.call('HSET', key('limits'), 'version', ARGV[2], 'set', ARGV[3]) end
return cjson.encode({ applied = applied })
