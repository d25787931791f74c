-- stopExecution: no agent of it starts from here on. Repeatable; the first reason wins (R20).
-- KEYS[1] the execution's record
-- ARGV    1 tag · 2 execution id · 3 settings · 4 JSON { orderId?, reason, actor?, note?, error?, to?, placedAt? }
-- Returns { state, already = true when an earlier stop or its end came first, live, orderId? } · refused: NOT_FOUND
-- Events  execution.stopping (an idle one is cancelled node by node first, then stopped, by advanceExecution)
--!flags allow-oom
--!include base
--!include execution
local stop = cjson.decode(ARGV[4])
local state = field('state')
if not state then return refuse('NOT_FOUND') end
local answer = { state = state, already = true }
-- Asked before somebody retried it, heard after: it was for what ran then.
if stop.placedAt and tonumber(field('retriedAt') or '0') > stop.placedAt then
  answer.live = number_field('live')
  return cjson.encode(answer)
end
if state == 'idle' and not field('halting') then
  redis.call('HSET', exe_key, 'halting', 1, 'reason', stop.reason)
  for _, name in ipairs({ 'orderId', 'actor', 'note' }) do
    if stop[name] then redis.call('HSET', exe_key, name, stop[name]) end
  end
  bump()
  keep_advancing()
  answer.already = false
elseif state == 'running' or state == 'paused' then
  begin_stopping(state, stop)
  answer.state = 'stopping'
  answer.already = false
elseif state == 'stopping' and stop.orderId and not field('orderId') then
  -- A node that failed for good began this stop; the order that carries it out is written down now.
  redis.call('HSET', exe_key, 'orderId', stop.orderId)
  bump()
end
answer.live = number_field('live')
answer.orderId = field('orderId')
return cjson.encode(answer)
