-- stopExecution: from here on no agent of the execution starts. Repeatable; the first reason wins.
-- KEYS[1] the execution's record
-- ARGV    1 tag · 2 execution id · 3 settings
--         · 4 JSON { orderId?, reason, actor?, actorRole?, requestId?, note?, error?, to?,
--           reach? = beginnings of the shard when it was asked, replaces? = an order that nobody has any more,
--           isLate? = only past its deadline }
-- Returns { state, already = true when an earlier stop or its end came first, live, orderId?, spared? = it began later }
--         · refused: NOT_FOUND
-- Events  execution.stopping (an idle one is cancelled node by node first, then stopped, by advanceExecution)
--!flags allow-oom
--!include base
--!include execution
local stop = cjson.decode(ARGV[4])
local state = field('state')
if not state then return refuse('NOT_FOUND') end
local answer = { state = state, already = true }
-- The stop was asked for before the execution was made or retried, and came after: it was for the work of that time.
local due = redis.call('ZSCORE', key('deadlines'), EXE)
answer.spared = stop.reach ~= nil and number_field('born') > stop.reach
if answer.spared or (stop.isLate and not (due and tonumber(due) <= NOW)) then
  answer.live = number_field('live')
  return cjson.encode(answer)
end
if state == 'idle' and not field('halting') then
  redis.call('HSET', exe_key, 'halting', 1, 'reason', stop.reason)
  if stop.actor then redis.call('HDEL', exe_key, 'actorRole', 'requestId') end
  for _, name in ipairs({ 'orderId', 'actor', 'actorRole', 'requestId', 'note' }) do
    if stop[name] then redis.call('HSET', exe_key, name, stop[name]) end
  end
  bump()
  keep_advancing()
  answer.already = false
elseif state == 'running' or state == 'paused' then
  begin_stopping(state, stop)
  answer.state = 'stopping'
  answer.already = false
elseif state == 'stopping' then
  local held = field('orderId')
  if stop.orderId and (not held or held == stop.replaces) then
    -- A node that failed for good began this stop, or a failover lost its order. This order carries the stop out, so the record
    -- names it.
    redis.call('HSET', exe_key, 'orderId', stop.orderId)
    bump()
  end
  -- An earlier call may have failed half-way.
  keep_advancing()
end
-- The script removes the deadline, not the caller: so a deadline is kept until its stop is stored.
if due then redis.call('ZREM', key('deadlines'), EXE) end
answer.live = number_field('live')
answer.orderId = field('orderId')
return cjson.encode(answer)
