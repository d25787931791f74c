-- saveDrill: keeps a worker's last drill. Repeatable: the same result again is not audited again.
-- KEYS[1] the last drill of each worker
-- ARGV    1 control tag · 2 worker id · 3 settings · 4 result JSON
-- Returns nothing of use
-- Events  drill.passed or drill.failed (an alarm)
--!include base
--!include control
--!include audit
if redis.call('HGET', KEYS[1], ARGV[2]) == ARGV[4] then return 'OK' end
redis.call('HSET', KEYS[1], ARGV[2], ARGV[4])
local result = cjson.decode(ARGV[4])
local act = result.passed and 'drill.passed' or 'drill.failed'
audit({ act = act, workerId = ARGV[2], by = result.by, orderId = result.orderId, note = result.detail })
emit_control({ type = act, entity = 'worker', workerId = ARGV[2], data = { orderId = result.orderId, detail = result.detail } })
return 'OK'
