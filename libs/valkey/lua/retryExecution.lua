-- retryExecution: stopped | failed → running, with the next epoch. Completed nodes keep their results; advanceExecution
-- makes the others pending again, in bounded steps, and then those ready that wait for nothing. Repeatable by retry id.
-- KEYS[1] the execution's record
-- ARGV    1 tag · 2 execution id · 3 settings · 4 retry id · 5 actor
--         · 6 force: 1 although an attempt of it may still run, or 0 · 7 its budget from here on in micro-dollars, or ''
--         · 8 its budget from here on in tokens, or ''
-- Returns { state, epoch } · refused: NOT_FOUND · INVALID_TRANSITION { from, to } · NOT_PROVED { agentId, count }
--         · BUDGET_SPENT { spent, of }
--         · LATCHED { latchId, kind, scope }
-- Events  execution.running
--!include base
--!include execution
--!include latch
local state = field('state')
if not state then return refuse('NOT_FOUND') end
if field('retryId') == ARGV[4] then return cjson.encode({ state = state, epoch = number_field('epoch') }) end
if state ~= 'stopped' and state ~= 'failed' then
  return refuse('INVALID_TRANSITION', { entity = 'execution', id = EXE, from = state, to = 'running' })
end
-- A retry must not start a second copy beside one that may live.
local living = redis.call('SRANDMEMBER', live_key)
local unproved = ARGV[6] ~= '1' and redis.call('SRANDMEMBER', exe_key .. ':unproved')
if living or unproved then
  return refuse('NOT_PROVED', { agentId = living or unproved,
    count = redis.call('SCARD', living and live_key or exe_key .. ':unproved'), living = living ~= false })
end
-- Spent cost and tokens stay counted, so a budget that is used up would stop the execution at its next report.
local budgets = { { 'costMicros', 'maxCostMicros', tonumber(ARGV[7]) }, { 'tokens', 'maxTokens', tonumber(ARGV[8]) } }
for _, budget in ipairs(budgets) do
  local spent = number_field(budget[1])
  if budget[3] and budget[3] <= spent then return refuse('BUDGET_SPENT', { spent = spent, of = budget[1] }) end
end
local latch = latch_over_start(nil, field('kinds') or '[]')
if latch then return refuse_latched(latch) end

for _, suffix in ipairs(PARTS) do redis.call('PERSIST', exe_key .. suffix) end
redis.call('ZREM', key('expiry'), EXE)
local idem = field('idempotencyKey')
if idem then redis.call('PERSIST', key('idem:' .. idem)) end
redis.call('HDEL', exe_key, 'stoppedAt', 'reason', 'actor', 'actorRole', 'requestId', 'note', 'error', 'orderId', 'stopTo', 'halting', 'frozen', 'heldBy',
  'deadlineAt', 'deadlineLeftMs', 'doubted')
for _, budget in ipairs(budgets) do
  if budget[3] then redis.call('HSET', exe_key, budget[2], int(budget[3])) end
end
redis.call('DEL', todo_key, exe_key .. ':parked')
redis.call('HSET', exe_key, 'retrying', 0, 'retryId', ARGV[4], 'born', begin(), 'allowed', 0)
local epoch = redis.call('HINCRBY', exe_key, 'epoch', 1)
move_execution(state, 'running', { actor = ARGV[5], data = { epoch = epoch } })
local timeout = field('timeoutMs')
if timeout then set_deadline(timeout) end
keep_advancing()
return cjson.encode({ state = 'running', epoch = epoch })
