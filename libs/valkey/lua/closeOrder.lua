-- closeOrder: a person declares that the missing confirmations of an order will not come, and Belay stops looking for them.
-- Repeatable; the first reason is kept. The receipt stays incomplete.
-- KEYS[1] the order's record
-- ARGV    1 control tag · 2 order id · 3 settings · 4 by · 5 the reason · 6 JSON { role?, requestId? } of who closes it
-- Returns { state } · refused: NOT_FOUND
-- Events  order.closed
--!flags allow-oom
--!include base
--!include control
--!include audit
--!include order
if redis.call('EXISTS', order_key) == 0 then return refuse('NOT_FOUND') end
local state = settle_order(true)
if state == 'incomplete' and redis.call('HEXISTS', order_key, 'closedAt') == 0 then
  redis.call('HSET', order_key, 'closedAt', int(NOW), 'closedBy', ARGV[4], 'closeNote', ARGV[5])
  keeping({ 'orders:open' }, function() redis.call('SREM', key('orders:open'), ORDER) end)
  expire_receipt()
  local missing = missing_count()
  local who = cjson.decode(ARGV[6] or '{}')
  audit({ act = 'order.closed', orderId = ORDER, by = ARGV[4], role = who.role, requestId = who.requestId, note = ARGV[5], missing = missing })
  emit_control({ type = 'order.closed', entity = 'order', from = state, to = state, data = { orderId = ORDER, by = ARGV[4], missing = missing } })
end
return cjson.encode({ state = state })
