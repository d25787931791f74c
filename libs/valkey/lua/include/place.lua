-- place: writes an order to the log. Needs base, control, audit and order; ARGV[2] need not be the order's id.
-- `order` without seq, and without placedAt unless a failover lost it; `joins` is what others may join it by, or ''.
-- Returns the order as JSON text.
local function place(order, joins, ring)
  local again = order.placedAt ~= nil
  local record = key('ord:' .. order.id)
  order.placedAt = order.placedAt or NOW
  order.seq = redis.call('XADD', key('orders'), 'MAXLEN', '~', int(CONF.ordersKept), '*', 'id', order.id)
  local body = cjson.encode(order)
  redis.call('HSET', record, 'order', body, 'state', 'open', 'scopeKey', joins)
  redis.call('SADD', key('orders:open'), order.id)
  if joins ~= '' then redis.call('HSET', key('orders:by-scope'), joins, order.id) end
  redis.call('ZADD', key('idx:ord'), int(NOW), order.id)
  redis.call('ZREMRANGEBYRANK', key('idx:ord'), 0, -tonumber(CONF.ordersKept) - 1)
  if ring then redis.call('PUBLISH', CONF.doorbell, '{"order":' .. body .. '}') end
  audit({ act = 'order.open', orderId = order.id, kind = order.kind, scope = order.scope, mode = order.mode, graceMs = order.graceMs,
    reason = order.reason, by = order.by, note = order.note, latchId = order.latchId, again = again or nil, orderDigest = redis.sha1hex(body) })
  emit_control({ type = 'order.open', entity = 'order', to = 'open', reason = order.reason,
    data = { orderId = order.id, kind = order.kind, scope = order.scope, by = order.by } })
  return body
end
