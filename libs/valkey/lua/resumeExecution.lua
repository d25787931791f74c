-- resumeExecution: paused → running: its deadline runs on from where it stood, and what was parked is due. Repeatable.
-- KEYS[1] the execution's record
-- ARGV    1 tag · 2 execution id · 3 settings · 4 actor
-- Returns { state, wasFrozen } · refused: NOT_FOUND · NOT_PAUSED { state } · LATCHED { latchId, kind, scope }
-- Events  execution.running
--!include base
--!include execution
--!include latch
local state = field('state')
if not state then return refuse('NOT_FOUND') end
if state == 'running' then return cjson.encode({ state = state, wasFrozen = false }) end
if state ~= 'paused' then return refuse('NOT_PAUSED', { state = state }) end
local latches = engaged_latches()
-- A freeze keeps it too: its agents would stand still while its deadline ran.
local latch = latches and covering_latch(latches, { execution = EXE, labels = cjson.decode(field('labels') or '{}') })
if latch then return refuse_latched(latch) end
local frozen = field('frozen')
move_execution('paused', 'running', { actor = ARGV[4] })
redis.call('HDEL', exe_key, 'frozen', 'heldBy')
local left = field('deadlineLeftMs')
if left then
  local deadline = int(NOW + tonumber(left))
  redis.call('HDEL', exe_key, 'deadlineLeftMs')
  redis.call('HSET', exe_key, 'deadlineAt', deadline)
  redis.call('ZADD', key('deadlines'), deadline, EXE)
end
-- Bounded by what was ready when the pause began.
for _, id in ipairs(redis.call('SMEMBERS', exe_key .. ':parked')) do redis.call('ZADD', key('outbox:at'), 'XX', int(NOW - 2000), id) end
redis.call('DEL', exe_key .. ':parked')
keep_advancing()
return cjson.encode({ state = 'running', wasFrozen = frozen ~= nil })
