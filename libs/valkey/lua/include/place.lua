-- place: writes an order to the log. Needs base, control, audit and order; ARGV[2] need not be the order's id. `order` has no
-- seq, and placedAt only if a failover lost it. `joins` is the value by which other orders may join it, or ''. Record, log and
-- doorbell come first; a corrupt book behind them is set aside. Returns the order as JSON text.
local OPPOSITE = { freeze = 'thaw', thaw = 'freeze' }
local function place(order, joins, ring)
  local again = order.placedAt ~= nil
  local record = key('ord:' .. order.id)
  order.placedAt = order.placedAt or NOW
  order.seq = keeping({ 'orders' }, function()
    return redis.call('XADD', key('orders'), 'MAXLEN', '~', int(CONF.ordersKept), '*', 'id', order.id)
  end) or int(NOW) .. '-0'
  local body = cjson.encode(order)
  redis.call('HSET', record, 'order', body, 'state', INITIAL.order, 'scopeKey', joins)
  keeping({ 'orders:open' }, function() redis.call('SADD', key('orders:open'), order.id) end)
  if ring then redis.call('PUBLISH', CONF.doorbell, '{"order":' .. body .. '}') end
  if joins ~= '' then
    keeping({ 'orders:by-scope' }, function()
      redis.call('HSET', key('orders:by-scope'), joins, order.id)
      -- An order joins no freeze or thaw from before the opposite order, since the processes have changed since.
      local opposite = OPPOSITE[order.kind]
      if opposite then redis.call('HDEL', key('orders:by-scope'), opposite .. string.sub(joins, #order.kind + 1)) end
    end)
  end
  keeping({ 'idx:ord' }, function()
    redis.call('ZADD', key('idx:ord'), int(NOW), order.id)
    redis.call('ZREMRANGEBYRANK', key('idx:ord'), 0, -tonumber(CONF.ordersKept) - 1)
  end)
  audit({ act = 'order.open', orderId = order.id, kind = order.kind, scope = order.scope, mode = order.mode, graceMs = order.graceMs,
    reason = order.reason, by = order.by, role = order.role, requestId = order.requestId, note = order.note, latchId = order.latchId, again = again or nil, orderDigest = redis.sha1hex(body) })
  emit_control({ type = 'order.open', entity = 'order', to = 'open', reason = order.reason,
    data = { orderId = order.id, kind = order.kind, scope = order.scope, by = order.by } })
  return body
end
