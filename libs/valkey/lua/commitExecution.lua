-- commitExecution: makes a staged execution exist, and starts it when asked. Repeatable: the same id answers the same.
-- A commit that creates nothing removes the staged keys.
-- KEYS[1] the execution's record
-- ARGV    1 tag · 2 execution id · 3 settings · 4 record fields as a JSON object of strings · 5 number of nodes
--         · 6 start: 1 or 0 · 7 labels as a JSON array of "k=v"
--         · 8 JSON array of what its nodes are, without repetition: { pool, labels }; empty when they are too many kinds
--         · 9 JSON array of the labels of nodes that have labels of their own, without repetition
-- Returns { created = true | false, id } · refused: IDEMPOTENCY_CONFLICT { id } · STAGING_LOST
--           · LATCHED { latchId, kind, scope } when it should start and a latch covers it whole
-- Events  execution.idle, then execution.running when started
--!flags allow-oom
--!include base
--!include execution
--!include latch
--!include admit
local staged_key = exe_key .. ':staged'

-- A commit that creates nothing removes its staged keys at once: no other process knows of them.
local function unstage(answer)
  if redis.call('EXISTS', exe_key) == 0 then
    redis.call('UNLINK', staged_key)
    for _, suffix in ipairs(PARTS) do redis.call('UNLINK', exe_key .. suffix) end
  end
  return answer
end

local answer = not_admitted()
if answer then return unstage(answer) end
-- Staging writes the mark last, so a failover that lost any staged key lost the mark too.
local total = tonumber(ARGV[5])
local whole = redis.call('HLEN', exe_key .. ':specs') == total and redis.call('HLEN', nodes_key) == total
  and redis.call('LLEN', exe_key .. ':order') == total
if not whole or redis.call('DEL', staged_key) == 0 then
  return unstage(refuse('STAGING_LOST'))
end

for name, value in pairs(fields) do redis.call('HSET', exe_key, name, value) end
redis.call('HSET', exe_key, 'id', EXE, 'state', 'idle', 'version', 1, 'epoch', 1, 'born', begin(), 'createdAt', int(NOW), 'fence', 0,
  'seq', 0, 'costMicros', 0, 'live', 0, 'allowed', 0, 'n:total', total, 'n:pending', total, 'n:ready', 0, 'n:running', 0,
  'n:suspended', 0, 'n:completed', 0, 'n:failed', 0, 'n:skipped', 0, 'n:cancelled', 0)
-- A start and a retry ask for these as a submit does. A long list is not stored: then the claims decide.
if #ARGV[8] <= 2048 then redis.call('HSET', exe_key, 'kinds', ARGV[8]) end
for _, suffix in ipairs(PARTS) do redis.call('PERSIST', exe_key .. suffix) end
if idem then redis.call('SET', key('idem:' .. idem), EXE) end
redis.call('ZADD', key('idx:exe'), int(NOW), EXE)
redis.call('ZADD', key('idx:exe:idle'), int(NOW), EXE)
if ARGV[7] ~= '[]' then redis.call('HSET', key('idx:labels'), EXE, ARGV[7]) end
if ARGV[9] ~= '[]' then redis.call('HSET', key('idx:node-labels'), EXE, ARGV[9]) end
for _, label in ipairs(cjson.decode(ARGV[7])) do redis.call('ZADD', key('idx:lbl:' .. label), int(NOW), EXE) end
emit({ type = 'execution.idle', entity = 'execution', to = 'idle' })

if ARGV[6] == '1' then
  move_execution('idle', 'running')
  if fields.timeoutMs then set_deadline(fields.timeoutMs) end
  keep_advancing()
end
return cjson.encode({ created = true, id = EXE })
