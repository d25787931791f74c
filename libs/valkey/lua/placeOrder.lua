-- placeOrder: writes an order to the log, then rings the doorbell with it. Durable before announced.
-- Repeatable by order id; and while an order for the same scope is open, a second one joins it (R20).
-- KEYS[1] the order's record
-- ARGV    1 control tag · 2 order id · 3 settings · 4 order JSON without seq and placedAt · 5 scope key
-- Returns { order = JSON text, created } · refused: nothing
-- Events  order.open
--!include base
--!include control
--!include order
local existing = redis.call('HGET', order_key, 'order')
if existing then return cjson.encode({ order = existing, created = false }) end
local other = redis.call('HGET', key('orders:by-scope'), ARGV[5])
if other then
  local open = redis.call('HGET', key('ord:' .. other), 'order')
  local asked, held = cjson.decode(ARGV[4]), open and cjson.decode(open)
  -- One that must be immediate never waits behind a graceful one.
  if held and not (asked.mode == 'immediate' and held.mode ~= 'immediate') then
    return cjson.encode({ order = open, created = false })
  end
end
local order = cjson.decode(ARGV[4])
order.placedAt = NOW
local seq = redis.call('XADD', key('orders'), 'MAXLEN', '~', int(CONF.ordersKept), '*', 'id', ORDER)
order.seq = seq
local body = cjson.encode(order)
redis.call('HSET', order_key, 'order', body, 'state', 'open', 'missing', 0, 'scopeKey', ARGV[5])
redis.call('SADD', key('orders:open'), ORDER)
redis.call('HSET', key('orders:by-scope'), ARGV[5], ORDER)
redis.call('ZADD', key('idx:ord'), int(NOW), ORDER)
redis.call('ZREMRANGEBYRANK', key('idx:ord'), 0, -tonumber(CONF.ordersKept) - 1)
redis.call('PUBLISH', CONF.doorbell, '{"order":' .. body .. '}')
emit_control({ type = 'order.open', entity = 'order', to = 'open', reason = order.reason, data = { orderId = ORDER, scope = order.scope, by = order.by } })
return cjson.encode({ order = body, created = true })
