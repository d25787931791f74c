-- removeWaiting: removes an attempt that no worker has claimed from its pool. Its node is cancelled, with an error that names
-- who removed it. The consequences are those of a killed agent. Repeatable: an attempt that no longer waits is left alone.
-- KEYS[1] the execution's record
-- ARGV    1 tag · 2 execution id · 3 settings · 4 agent id · 5 pool · 6 selector's conditions as JSON, or '' · 7 actor
--         · 8 note or '' · 9 dry: 1 to answer only whether it would be removed, or 0
-- Returns { removed, stopNeeded = live agents must be stopped by an order, more = there are steps left to advance }
-- Events  node.cancelled, execution.stopping | failed | stopped
--!flags allow-oom
--!include base
--!include execution
--!include latch
local id, pool = ARGV[4], ARGV[5]
local function nothing() return cjson.encode({ removed = false, stopNeeded = false, more = false }) end
local entry = redis.call('HGET', key('outbox'), id)
local state = field('state')
if not entry or not state then
  -- The execution's record was removed by hand and left this member: no attempt waits under that id.
  redis.call('ZREM', key('wait:' .. pool), id)
  forget_idle_pool(pool)
  return nothing()
end
local node_id = cjson.decode(entry).nodeId
local node = read_node(node_id)
if node.s ~= 'ready' or node.p ~= pool or agent_id(node, node.a) ~= id then return nothing() end
if ARGV[6] ~= '' then
  local spec = cjson.decode(redis.call('HGET', exe_key .. ':specs', node_id))
  if not meets(cjson.decode(ARGV[6]), merged_labels(spec)) then return nothing() end
end
if ARGV[9] == '1' then return cjson.encode({ removed = true, stopNeeded = false, more = false }) end

local note = ARGV[8] ~= '' and ARGV[8] or nil
local failure = { code = 'REMOVED', message = 'Node ' .. node_id .. ' was removed from the queue of pool ' .. pool .. ' before it started.', nodeId = node_id }
node.e, node.r = failure, 'user_abort'
move_node(node_id, node, 'cancelled', { attempt = node.a, reason = 'user_abort', error = failure, actor = ARGV[7], data = note and { note = note } })
redis.call('HSETNX', exe_key, 'error', cjson.encode(failure))
redis.call('HSETNX', exe_key, 'reason', 'user_abort')
redis.call('HSETNX', exe_key, 'actor', ARGV[7])
skip_dependants(node_id)
if field('onFailure') == 'stop' and (state == 'running' or state == 'paused') then
  begin_stopping(state, { reason = 'user_abort', actor = ARGV[7], note = note, error = failure, to = 'stopped' })
end
bump()
local now_state = settle()
return cjson.encode({
  removed = true, more = redis.call('ZSCORE', key('advancing'), EXE) ~= false,
  stopNeeded = now_state == 'stopping' and number_field('live') > 0 and not field('orderId'),
})
