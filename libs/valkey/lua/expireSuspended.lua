-- expireSuspended: fails a node for good whose signal did not come in time. Repeatable.
-- KEYS[1] the execution's record
-- ARGV    1 tag · 2 execution id · 3 settings · 4 node id · 5 most dependants to make ready here
-- Returns { state, entries, more, stopNeeded } · refused: NOT_FOUND
-- Events  node.failed, node.ready, execution.stopping | completed | failed
--!flags allow-oom
--!include base
--!include execution
--!include suspend
local node_id = ARGV[4]
local state = field('state')
local node = state and read_node(node_id)
if not node or node.s ~= 'suspended' then
  redis.call('ZREM', key('suspended'), suspended_member(node_id))
  if not state then return refuse('NOT_FOUND') end
  return cjson.encode({ state = state, entries = {}, more = false, stopNeeded = false })
end
local entries = {}
local active = state == 'running' or state == 'paused'
if active and NOW >= node.w.u then
  local failure = { code = 'SUSPENDED_TOO_LONG', message = 'No signal ' .. node.w.n .. ' came in time.', nodeId = node_id }
  redis.call('ZREM', key('suspended'), suspended_member(node_id))
  node.w = nil
  node.e, node.r = failure, 'timeout'
  move_node(node_id, node, 'failed', { attempt = node.a, reason = 'timeout', error = failure })
  if node.f == 1 then
    redis.call('HINCRBY', exe_key, 'allowed', 1)
    release_dependants(node_id, tonumber(ARGV[5]), entries)
  else
    redis.call('HSETNX', exe_key, 'error', cjson.encode(failure))
    skip_dependants(node_id)
    if field('onFailure') == 'stop' and (number_field('live') > 0 or redis.call('SCARD', open_key) > 0) then
      begin_stopping(state, { reason = 'error', error = failure, to = 'failed' })
    end
  end
  bump()
end
local now_state = settle()
return cjson.encode({ state = now_state, entries = entries, more = redis.call('ZSCORE', key('advancing'), EXE) ~= false,
  stopNeeded = now_state == 'stopping' and number_field('live') > 0 and not field('orderId') })
