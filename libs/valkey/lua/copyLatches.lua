-- copyLatches: a shard takes a newer copy of the engaged latches, and what was parked because of one is due again.
-- Repeatable; a copy that is not newer changes nothing.
-- KEYS[1] the shard's copy
-- ARGV    1 tag · 2 version · 3 JSON array of latches · 4 most parked attempts to free in this call
-- Returns { applied, freed = number of attempts freed; as many as allowed: there may be more }
--!flags allow-oom
--!include base
local held = tonumber(redis.call('HGET', key('latches'), 'version') or '0')
local applied = tonumber(ARGV[2]) > held
if applied then redis.call('HSET', key('latches'), 'version', ARGV[2], 'set', ARGV[3]) end
local freed = redis.call('SPOP', key('parked'), int(tonumber(ARGV[4])))
-- Due since ever: the next sweep hands them over, and a late note of the hand-over before does not postpone that.
for _, id in ipairs(freed) do redis.call('ZADD', key('outbox:at'), 'XX', 0, id) end
return cjson.encode({ applied = applied, freed = #freed })
