-- saveDrill: keeps a worker's last drill. Repeatable: the same result again is not audited again.
-- KEYS[1] the last drill of each worker
-- ARGV    1 control tag · 2 worker id · 3 settings · 4 result JSON · 5 the drill's id
--         · 6 noticed: 1 when nobody finished it; then it only counts while it is entered as begun; else 0
-- Returns nothing of use
-- Events  drill.passed or drill.failed (an alarm)
--!flags allow-oom
--!include base
--!include control
--!include audit
local was_open = redis.call('HDEL', key('drills:begun'), ARGV[5]) == 1
if ARGV[6] == '1' and not was_open then return 'OK' end
local held = redis.call('HGET', KEYS[1], ARGV[2])
if held == ARGV[4] then return 'OK' end
local result = cjson.decode(ARGV[4])
-- The result of a drill that began before the stored one is reported, and does not replace it.
if not held or cjson.decode(held).at <= result.at then redis.call('HSET', KEYS[1], ARGV[2], ARGV[4]) end
local act = result.passed and 'drill.passed' or 'drill.failed'
audit({ act = act, workerId = ARGV[2], by = result.by, role = result.role, requestId = result.requestId, orderId = result.orderId, note = result.detail })
emit_control({ type = act, entity = 'worker', workerId = ARGV[2], data = { orderId = result.orderId, detail = result.detail } })
return 'OK'
