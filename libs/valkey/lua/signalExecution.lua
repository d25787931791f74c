-- signalExecution: wakes the nodes that wait for a signal, or keeps the signal for the first node that will wait for it.
-- Repeatable by request id.
-- KEYS[1] the execution's record
-- ARGV    1 tag · 2 execution id · 3 settings · 4 name · 5 payload (JSON text) · 6 request id · 7 by
--         · 8 most signals of an execution
-- Returns { state, woken = node ids, kept = whether it waits for a node, entries } · refused: NOT_FOUND · NOT_RUNNING { state }
--         · TOO_MANY_SIGNALS { most }
-- Events  execution.signalled, node.ready
--!include base
--!include execution
--!include suspend
local name, payload = ARGV[4], ARGV[5]
local state = field('state')
if not state then return refuse('NOT_FOUND') end
local done = redis.call('HGET', said_key, 'i:' .. ARGV[6])
if done then return done end
if state ~= 'idle' and state ~= 'running' and state ~= 'paused' then return refuse('NOT_RUNNING', { state = state }) end
if number_field('signals') >= tonumber(ARGV[8]) then return refuse('TOO_MANY_SIGNALS', { most = tonumber(ARGV[8]) }) end

local entries, woken = {}, {}
local waiting = cjson.decode(redis.call('HGET', said_key, 'w:' .. name) or '[]')
for _, id in ipairs(waiting) do
  local node = read_node(id)
  -- The node was cancelled meanwhile, or waits for another signal by now.
  if node and node.s == 'suspended' and node.w and node.w.n == name then
    wake_node(id, node, name, payload, entries)
    woken[#woken + 1] = id
  end
end
redis.call('HDEL', said_key, 'w:' .. name)
local kept = #woken == 0
if kept then redis.call('HSET', said_key, 'g:' .. name, payload) end
redis.call('HINCRBY', exe_key, 'signals', 1)
bump()
emit({ type = 'execution.signalled', entity = 'execution', actor = ARGV[7], data = { signal = name, woken = #woken } })
local answer = cjson.encode({ state = state, woken = woken, kept = kept, entries = entries })
redis.call('HSET', said_key, 'i:' .. ARGV[6], cjson.encode({ state = state, woken = woken, kept = kept, entries = {} }))
return answer
