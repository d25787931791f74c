-- reportTargets: stores outcomes of targets, with their evidence. A confirmed outcome is final; an unconfirmed one may be
-- confirmed later. Repeatable.
-- KEYS[1] the order's record
-- ARGV    1 control tag · 2 order id · 3 settings · then for each target: agent id, outcome, target JSON text
-- Returns { state } · refused: NOT_FOUND
-- Events  order.unconfirmed (an alarm); order.complete when they were the last
--!flags allow-oom
--!include base
--!include control
--!include audit
--!include order
local state = redis.call('HGET', order_key, 'state')
if not state then return refuse('NOT_FOUND') end
for i = 4, #ARGV, 3 do
  local id, outcome, text = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local held = redis.call('HGET', targets_key, id)
  -- HGET of a missing field gives false in Lua, not nil.
  local known = held and cjson.decode(held) or {}
  local before = known.outcome
  -- A complete receipt is sealed: an agent that was not named by then had ended before the order's targets were read.
  local sealed = (before and CONFIRMED[before]) or (not before and state == 'complete')
  if not sealed then
    redis.call('HSET', targets_key, id, text)
    if CONFIRMED[outcome] then
      redis.call('HINCRBY', order_key, 'o:' .. outcome, 1)
      redis.call('RPUSH', sealed_key, id)
      redis.call('HSET', order_key, 'digest', redis.sha1hex((redis.call('HGET', order_key, 'digest') or '') .. '\n' .. text))
    end
    redis.call(CONFIRMED[outcome] and 'SREM' or 'SADD', missing_key, id)
    if type(known.workerId) == 'string' and outcome ~= 'pending' then redis.call('SREM', own_targets(known.workerId), ORDER .. ' ' .. id) end
    if outcome == 'unconfirmed' and before ~= 'unconfirmed' then
      audit({ act = 'order.unconfirmed', orderId = ORDER, agentId = id })
      emit_control({ type = 'order.unconfirmed', entity = 'order', agentId = id, data = { orderId = ORDER } })
    end
  end
end
return cjson.encode({ state = settle_order(false) })
