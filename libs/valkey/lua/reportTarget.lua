-- reportTarget: what became of one target, with its evidence. A confirmed outcome is final; unconfirmed may be
-- confirmed later. Repeatable.
-- KEYS[1] the order's record
-- ARGV    1 control tag · 2 order id · 3 settings · 4 agent id · 5 outcome · 6 target JSON text
-- Returns { state, outcome } · refused: NOT_FOUND
-- Events  order.complete when it was the last
--!include base
--!include control
--!include order
if redis.call('EXISTS', order_key) == 0 then return refuse('NOT_FOUND') end
local id, outcome = ARGV[4], ARGV[5]
local held = redis.call('HGET', targets_key, id)
-- A missing field is false in Lua, not nil.
local before = held and cjson.decode(held).outcome or nil
if not (before and CONFIRMED[before]) then
  redis.call('HSET', targets_key, id, ARGV[6])
  local was_missing = before ~= nil
  local is_missing = not CONFIRMED[outcome]
  if was_missing and not is_missing then redis.call('HINCRBY', order_key, 'missing', -1)
  elseif is_missing and not was_missing then redis.call('HINCRBY', order_key, 'missing', 1) end
  if outcome == 'unconfirmed' and before ~= 'unconfirmed' then
    emit_control({ type = 'order.unconfirmed', entity = 'order', agentId = id, data = { orderId = ORDER } })
  end
end
return cjson.encode({ state = settle_order(false), outcome = outcome })
