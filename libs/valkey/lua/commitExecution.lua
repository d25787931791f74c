-- commitExecution: makes a staged execution exist, and starts it when asked. Repeatable: the same id answers the same.
-- KEYS[1] the execution's record
-- ARGV    1 tag · 2 execution id · 3 settings · 4 record fields as a JSON object of strings · 5 number of nodes
--         · 6 start: 1 or 0 · 7 labels as a JSON array of "k=v"
--         · 8 JSON array of what its nodes are, without repetition: { pool, labels }; empty when they are too many kinds
-- Returns { created = true | false, id } · refused: IDEMPOTENCY_CONFLICT { id } · STAGING_LOST
--           · LATCHED { latchId, kind, scope } when it should start and a latch covers it whole
-- Events  execution.idle, then execution.running when started
--!include base
--!include execution
--!include latch
local fields = cjson.decode(ARGV[4])
local total = tonumber(ARGV[5])
local idem = fields.idempotencyKey

if redis.call('EXISTS', exe_key) == 1 then return cjson.encode({ created = true, id = EXE }) end
if idem then
  local other = redis.call('GET', key('idem:' .. idem))
  if other then
    local same = redis.call('HGET', key('exe:' .. other), 'specHash') == fields.specHash
    if same then return cjson.encode({ created = false, id = other }) end
    return refuse('IDEMPOTENCY_CONFLICT', { id = other })
  end
end
-- A latch covers an execution as a whole, or every one of its nodes; else the nodes it covers wait by themselves.
local latches = ARGV[6] == '1' and engaged_latches()
if latches then
  local latch = covering_latch(latches, { execution = EXE, labels = cjson.decode(fields.labels or '{}') }, 'latch')
  local kinds = cjson.decode(ARGV[8])
  for i = 1, latch and 0 or #kinds do
    latch = covering_latch(latches, { execution = EXE, pool = kinds[i].pool, labels = kinds[i].labels }, 'latch')
    if not latch then break end
  end
  if latch then return refuse_latched(latch) end
end
-- The expiry of the todo list is the last that staging writes: a failover that lost any of it lost that too.
if redis.call('HLEN', exe_key .. ':specs') ~= total or redis.call('HLEN', nodes_key) ~= total or redis.call('PTTL', todo_key) < 0 then
  return refuse('STAGING_LOST')
end

for name, value in pairs(fields) do redis.call('HSET', exe_key, name, value) end
redis.call('HSET', exe_key, 'id', EXE, 'state', 'idle', 'version', 1, 'epoch', 1, 'createdAt', int(NOW), 'fence', 0,
  'seq', 0, 'costMicros', 0, 'live', 0, 'allowed', 0, 'n:total', total, 'n:pending', total, 'n:ready', 0, 'n:running', 0,
  'n:suspended', 0, 'n:completed', 0, 'n:failed', 0, 'n:skipped', 0, 'n:cancelled', 0)
for _, suffix in ipairs(EXPIRING) do redis.call('PERSIST', exe_key .. suffix) end
if idem then redis.call('SET', key('idem:' .. idem), EXE) end
redis.call('ZADD', key('idx:exe'), int(NOW), EXE)
redis.call('ZADD', key('idx:exe:idle'), int(NOW), EXE)
if ARGV[7] ~= '[]' then redis.call('HSET', key('idx:labels'), EXE, ARGV[7]) end
for _, label in ipairs(cjson.decode(ARGV[7])) do redis.call('ZADD', key('idx:lbl:' .. label), int(NOW), EXE) end
emit({ type = 'execution.idle', entity = 'execution', to = 'idle' })

if ARGV[6] == '1' then
  move_execution('idle', 'running')
  if fields.timeoutMs then
    local deadline = NOW + tonumber(fields.timeoutMs)
    redis.call('HSET', exe_key, 'deadlineAt', int(deadline))
    redis.call('ZADD', key('deadlines'), int(deadline), EXE)
  end
  keep_advancing()
end
return cjson.encode({ created = true, id = EXE })
