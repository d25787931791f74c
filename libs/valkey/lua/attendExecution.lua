-- attendExecution: counts a watcher as present. The execution is stopped when no watcher is present any more. Repeatable.
-- KEYS[1] the shard's watchers, by when each is missed
-- ARGV    1 tag · 2 execution id · 3 settings · 4 watcher · 5 how long until it is missed, milliseconds
-- Returns { missedAt }
--!flags allow-oom
--!include base
local missed_at = NOW + tonumber(ARGV[5])
redis.call('ZADD', key('watched'), int(missed_at), ARGV[2] .. ' ' .. ARGV[4])
return cjson.encode({ missedAt = missed_at })
